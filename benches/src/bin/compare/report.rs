//! Figures from runs, and the tables of them.

use relay_benches::cases::{Case, Run};
use relay_benches::peers::Contender;
use relay_benches::pipes::Carrier;
use serde::Serialize;

use crate::targets::{Measure, TARGETS, Target};
use crate::{Place, Results};

const MIB: f64 = 1_048_576.0;

/// The figures of one place, medians over the rounds. What was not measured is `null`.
#[derive(Debug, Serialize)]
pub(crate) struct Figures {
    case: String,
    carrier: &'static str,
    contender: &'static str,
    threads: usize,
    rounds: usize,
    /// Whether it stood still, and has no figures therefore.
    stalled: bool,
    /// MiB or exchanges per second.
    rate: Option<f64>,
    /// Microseconds of the process per MiB or exchange.
    cpu_micros: Option<f64>,
    /// Writes to both sockets per MiB or exchange.
    writes: Option<f64>,
    /// See [`Run::quotient`].
    quotient: Option<f64>,
    /// 99th percentile in microseconds, without and with load.
    p99_micros: Option<[f64; 2]>,
    /// The link's rate as a multiple of this one's.
    link_rate_ratio: Option<f64>,
    /// The link's work per processor time as a multiple of this one's.
    link_cpu_ratio: Option<f64>,
}

impl Results {
    fn of(&self, place: Place) -> &[Run] {
        self.runs.get(&place).map_or(&[], Vec::as_slice)
    }

    /// The median of `figure` over the rounds.
    fn median(&self, place: Place, figure: impl Fn(&Run) -> f64) -> Option<f64> {
        median(self.of(place).iter().map(figure).collect())
    }

    /// The median over the rounds of how much larger `figure` is of the contender than of the link.
    fn ratio(&self, place: Place, figure: impl Fn(&Run) -> f64) -> Option<f64> {
        let link = self.of((place.0, place.1, Contender::Link));
        let rounds = link.iter().zip(self.of(place));
        median(rounds.map(|(link, peer)| figure(peer) / figure(link)).collect())
    }

    fn measured(&self, target: &Target) -> Option<f64> {
        let place = |contender| (target.case, target.carrier, contender);
        let link = place(Contender::Link);
        match target.measure {
            Measure::Rate(peer) => self.ratio(place(peer), elapsed),
            Measure::PerCpu(peer) => self.ratio(place(peer), cpu),
            Measure::Writes => self.median(link, writes),
            Measure::Quotient => self.median(link, quotient),
        }
    }
}

fn elapsed(run: &Run) -> f64 {
    run.elapsed.as_secs_f64()
}

fn cpu(run: &Run) -> f64 {
    run.cpu.as_secs_f64()
}

fn writes(run: &Run) -> f64 {
    float(run.writes) / float(run.work)
}

fn quotient(run: &Run) -> f64 {
    run.quotient.unwrap_or(f64::NAN)
}

/// Exact below 2^53, which no count here reaches.
#[expect(clippy::cast_precision_loss, reason = "counts stay below 2^53")]
fn float(count: u64) -> f64 {
    count as f64
}

fn median(mut figures: Vec<f64>) -> Option<f64> {
    figures.sort_by(f64::total_cmp);
    let middle = figures.len() / 2;
    match figures.len() {
        0 => None,
        len if len % 2 == 1 => Some(figures[middle]),
        _ => Some(f64::midpoint(figures[middle - 1], figures[middle])),
    }
}

/// Work units in one unit of the tables: a MiB, or an exchange.
fn unit(case: Case) -> f64 {
    match case {
        Case::Bulk(_) | Case::Stalled => MIB,
        Case::Small(_) | Case::Loaded => 1.0,
    }
}

/// Every place that was measured or stood still, in the order of the cases.
pub(crate) fn figures(results: &Results, threads: usize) -> Vec<Figures> {
    let mut all = Vec::new();
    for case in Case::ALL {
        for carrier in Carrier::ALL {
            let places = Contender::ALL.map(|contender| (case, carrier, contender));
            let taken =
                |place: &Place| results.runs.contains_key(place) || results.stalled.contains(place);
            all.extend(places.into_iter().filter(taken).map(|it| row(results, it, threads)));
        }
    }
    all
}

fn row(results: &Results, place: Place, threads: usize) -> Figures {
    let (case, carrier, contender) = place;
    let unit = unit(case);
    let measured = results.of(place);
    let p99 = |which: usize| {
        let micros = |run: &Run| run.p99.map(|p99| p99[which].as_secs_f64() * 1e6);
        median(measured.iter().filter_map(micros).collect())
    };
    Figures {
        case: case.name(),
        carrier: carrier.name(),
        contender: contender.name(),
        threads,
        rounds: measured.len(),
        stalled: results.stalled.contains(&place),
        rate: results.median(place, |run| float(run.work) / unit / elapsed(run)),
        cpu_micros: results.median(place, |run| cpu(run) * 1e6 * unit / float(run.work)),
        writes: results
            .median(place, |run| writes(run) * unit)
            .filter(|_| contender != Contender::Quinn),
        quotient: median(measured.iter().filter_map(|run| run.quotient).collect()),
        p99_micros: p99(0).zip(p99(1)).map(|(without, with)| [without, with]),
        link_rate_ratio: results.ratio(place, elapsed),
        link_cpu_ratio: results.ratio(place, cpu),
    }
}

/// Prints all figures, then the targets.
pub(crate) fn print(results: &Results) {
    let mut heading = String::new();
    for figures in figures(results, 0) {
        let next = format!("{}/{}", figures.case, figures.carrier);
        if next != heading {
            let unit = if figures.case.starts_with("bulk") { "MiB" } else { "exchange" };
            let rate = format!("{unit}s/s");
            let cpu = format!("us/{unit}");
            println!(
                "\n{next:<24}{rate:>13}{cpu:>13}{:>8}{:>9}{:>9}",
                "writes", "link/it", "by CPU"
            );
            heading = next;
        }
        print_row(&figures);
    }
    println!("\n{:<52} {:>9} {:>9} {:>9}", "target", "at least", "aim", "measured");
    for target in TARGETS {
        if let Some(figure) = results.measured(target) {
            print_target(target, figure);
        }
    }
}

fn print_row(figures: &Figures) {
    let Figures { contender, .. } = figures;
    if figures.stalled {
        println!("  {contender:<22} stands still");
        return;
    }
    print!("  {contender:<22}");
    for (figure, width, digits) in [
        (figures.rate, 13, 0),
        (figures.cpu_micros, 13, 1),
        (figures.writes, 8, 2),
        (figures.link_rate_ratio, 9, 2),
        (figures.link_cpu_ratio, 9, 2),
    ] {
        let figure = figure.map_or_else(|| "-".into(), |figure| format!("{figure:.digits$}"));
        print!("{figure:>width$}");
    }
    if let Some([without, with]) = figures.p99_micros {
        print!("   p99 {without:.0} us alone, {with:.0} us loaded");
    }
    if let Some(quotient) = figures.quotient {
        print!("   x {quotient:.2}");
    }
    println!();
}

fn print_target(target: &Target, figure: f64) {
    let Target { case, carrier, measure, least, aim } = target;
    let measure_name = match measure {
        Measure::Rate(peer) => format!("rate / {}", peer.name()),
        Measure::PerCpu(peer) => format!("work per CPU / {}", peer.name()),
        Measure::Writes => "writes per exchange".into(),
        Measure::Quotient if *case == Case::Loaded => "p99 loaded / alone".into(),
        Measure::Quotient => "rate / unstalled".into(),
    };
    let name = format!("{}/{}: {measure_name}", case.name(), carrier.name());
    let aim_text = aim.map_or_else(|| "-".into(), |aim| aim.to_string());
    let verdict = match aim {
        _ if !least.is_met_by(figure) => "MISSED",
        Some(aim) if aim.is_met_by(figure) => "met, and the aim",
        _ => "met",
    };
    println!("{name:<52} {:>9} {aim_text:>9} {figure:>9.3}  {verdict}", least.to_string());
}
