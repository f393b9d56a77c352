//! What a seed stands for: the size of a world, the requests in it, and what goes wrong.

use std::time::Duration;

use fastrand::Rng;
use relay_core::transport::memory::{Crash, Dials, Direction, Travel};
use relay_tests::client::Http;

use super::manner::Manner;

/// Clients ask and faults begin within this time.
const BUSY: Duration = Duration::from_secs(25);

/// How long most faults last at most: some are over before anybody notices.
const FAULT_SHORT: Duration = Duration::from_secs(20);

/// The others: every detection and the longest delay between dials are within.
const FAULT_LONG: Duration = Duration::from_secs(70);

/// Faults of one world at most.
const FAULTS_MAX: usize = 6;

/// Requests of one world at most.
pub(crate) const ASKS_MAX: usize = 8;

/// Numbers of probes begin here.
const PROBE: u64 = 10_000;

/// Role ids of a site's management points.
pub(crate) const ROLES: [u64; 2] = [7, 8];

/// Role id of the other site's.
pub(crate) const OTHER_ROLE: u64 = 9;

/// Clients of one world at most.
const CLIENTS_MAX: usize = 3;

/// How rough a world is. What may go wrong for a client follows from it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Weather {
    /// Nothing goes wrong: every request is answered whole.
    Calm,
    /// Roles are stopped in good order and started again: nothing that a backend saw is lost.
    Drains,
    /// The relay is whole; site roles crash, fall silent, break off and talk nonsense.
    Site,
    /// Anything.
    Faults,
}

/// What is asked.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Kind {
    Get,
    Head,
    Propfind,
    CcmPost,
    BitsPost,
    /// Client notification: the site answers when it has something to say.
    Held,
}

impl Kind {
    const ALL: [Self; 6] =
        [Self::Get, Self::Head, Self::Propfind, Self::CcmPost, Self::BitsPost, Self::Held];

    pub(crate) fn verb(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Head => "HEAD",
            Self::Propfind => "PROPFIND",
            Self::CcmPost | Self::Held => "CCM_POST",
            Self::BitsPost => "BITS_POST",
        }
    }

    pub(crate) fn path(self) -> &'static str {
        if self == Self::Held { "/BGB/wait" } else { "/SMS_MP/x" }
    }
}

/// A request.
#[derive(Clone, Debug)]
pub(crate) struct Ask {
    /// Its number in the world, from 1.
    pub(crate) id: u64,
    pub(crate) kind: Kind,
    /// Which client asks. Over HTTP/1.1 it asks one thing after the other.
    pub(crate) client: usize,
    pub(crate) instance: usize,
    pub(crate) at: Duration,
    /// Octets of its body; `None`: it has none.
    pub(crate) body: Option<usize>,
    /// Whether the body's length is declared.
    pub(crate) declares: bool,
    /// How long the backend thinks.
    pub(crate) think: Duration,
    /// Octets of the answer's body.
    pub(crate) answer: usize,
    /// Whether the backend declares them.
    pub(crate) answer_declares: bool,
    /// When the client goes away, if it has no whole answer by then.
    pub(crate) patience: Option<Duration>,
    /// Whether headers go along that must not cross.
    pub(crate) forges: bool,
    pub(crate) manner: Manner,
    /// The management point's role id.
    pub(crate) role: u64,
}

impl Ask {
    /// Asks an instance, now, for something small.
    pub(crate) fn probe(instance: usize, role: u64, at: Duration) -> Self {
        Self {
            // Of no other request.
            id: PROBE + role,
            kind: Kind::Get,
            client: 0,
            instance,
            at,
            body: None,
            declares: true,
            think: Duration::ZERO,
            answer: 100,
            answer_declares: true,
            patience: None,
            forges: false,
            manner: Manner::Plain,
            role,
        }
    }

    /// Whether an instance may send it twice.
    pub(crate) fn is_repeatable(&self) -> bool {
        // An empty body that is declared is none.
        self.is_repeatable_at_site() && (self.body.is_none() || self.declares)
    }

    /// Whether a connection point may send it again, once, when a site role breaks off. The end of
    /// an empty body that is not declared may have come with the head.
    pub(crate) fn is_repeatable_at_site(&self) -> bool {
        let is_empty = self.body.is_none_or(|octets| octets == 0);
        is_empty && matches!(self.kind, Kind::Get | Kind::Head | Kind::Propfind)
    }
}

/// Something that goes wrong, or is done.
#[derive(Clone, Debug)]
pub(crate) enum Fault {
    /// One link is cut.
    CutLink {
        connection_point: usize,
        instance: usize,
    },
    /// Every link is cut.
    Storm,
    /// One link is cut at an octet after it is dialled.
    CutAt {
        instance: usize,
        direction: Direction,
        octet: u64,
    },
    /// One link is half-open from an octet on.
    HoldAt {
        instance: usize,
        direction: Direction,
        octet: u64,
    },
    /// A link that is up is half-open for a while.
    HoldLink {
        connection_point: usize,
        instance: usize,
        direction: Direction,
    },
    Partition {
        connection_point: usize,
        instance: usize,
        dials: Dials,
    },
    CrashConnectionPoint {
        connection_point: usize,
        crash: Crash,
    },
    CrashInstance {
        instance: usize,
        crash: Crash,
    },
    /// It is stopped in good order, and started again.
    DrainConnectionPoint {
        connection_point: usize,
    },
    DrainInstance {
        instance: usize,
    },
    /// An instance drains its links, and goes on.
    DrainLinks {
        instance: usize,
    },
    /// A connection point does not reach the site roles.
    CutOff {
        connection_point: usize,
    },
    /// Every connection to a site role is cut.
    CutBackends,
    /// The site roles are gone for a while.
    CrashSite {
        crash: Crash,
    },
    /// Somebody without a certificate of the site wants to be a link.
    Rogue {
        instance: usize,
    },
}

/// A fault and its time.
#[derive(Clone, Debug)]
pub(crate) struct Timed {
    pub(crate) at: Duration,
    /// How long it lasts, if it lasts.
    pub(crate) lasts: Duration,
    pub(crate) fault: Fault,
}

/// A world, before it is run.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) seed: u64,
    pub(crate) weather: Weather,
    pub(crate) connection_points: usize,
    pub(crate) instances: usize,
    pub(crate) links_per_instance: usize,
    /// Whether links may come over the clients' port too.
    pub(crate) takes_https_links: bool,
    /// Whether the last connection point stands in another site.
    pub(crate) is_split: bool,
    /// What each client speaks: HTTP/1.1 if it is not said.
    pub(crate) clients: Vec<Http>,
    /// Between connection points and instances.
    pub(crate) outside: Travel,
    /// Between connection points and site roles.
    pub(crate) inside: Travel,
    pub(crate) asks: Vec<Ask>,
    pub(crate) faults: Vec<Timed>,
    /// Whether the network is whole again once the last fault has ended.
    pub(crate) heals: bool,
}

impl Plan {
    /// What `seed` stands for.
    pub(crate) fn of(seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed);
        let weather = match rng.u8(..8) {
            0 => Weather::Calm,
            1 | 2 => Weather::Drains,
            _ => Weather::Faults,
        };
        let mut plan = Self {
            seed,
            weather,
            connection_points: few(&mut rng),
            instances: few(&mut rng),
            links_per_instance: 1 + usize::from(rng.u8(..4) == 0),
            takes_https_links: rng.u8(..3) == 0,
            is_split: false,
            clients: Vec::new(),
            outside: travel(&mut rng, 80),
            inside: travel(&mut rng, 3),
            asks: Vec::new(),
            faults: Vec::new(),
            heals: true,
        };
        if weather != Weather::Calm {
            plan.faults = (0..rng.usize(1..=FAULTS_MAX)).map(|_| plan.fault(&mut rng)).collect();
            plan.faults.sort_by_key(|fault| fault.at);
        }
        if rng.bool() {
            plan.outside = giving_up(plan.outside);
        }
        plan.asks = (1..=rng.u64(1..=ASKS_MAX as u64)).map(|id| plan.ask(id, &mut rng)).collect();
        plan.draw_ends(&mut rng);
        plan
    }

    /// How the two ends of the relay behave: its clients and its site roles.
    fn draw_ends(&mut self, rng: &mut Rng) {
        let speaks = |_| if rng.u8(..3) == 0 { Http::Two } else { Http::One };
        self.clients = (0..CLIENTS_MAX).map(speaks).collect();
        if self.weather == Weather::Faults && rng.u8(..5) == 0 {
            self.weather = Weather::Site;
            self.faults.clear();
        }
        let crashes = match self.weather {
            Weather::Site => rng.usize(..3),
            Weather::Faults => usize::from(rng.u8(..4) == 0),
            Weather::Calm | Weather::Drains => 0,
        };
        for _ in 0..crashes {
            let crash = if rng.bool() { Crash::Programs } else { Crash::Machine };
            let (at, lasts) = (within(rng, BUSY), within(rng, FAULT_SHORT));
            let connection_point = rng.usize(..self.connection_points);
            let fault = match (self.weather, rng.bool()) {
                (Weather::Faults, true) => Fault::CutOff { connection_point },
                _ => Fault::CrashSite { crash },
            };
            self.faults.push(Timed { at, lasts, fault });
        }
        self.faults.sort_by_key(|fault| fault.at);
        self.is_split = self.connection_points > 1 && rng.u8(..3) == 0;
        let vanishes = |it: &Timed| {
            matches!(it.fault, Fault::CrashConnectionPoint { crash: Crash::Machine, .. })
        };
        let has_vanished = self.faults.iter().any(vanishes);
        for ask in &mut self.asks {
            let is_other = self.is_split && rng.u8(..3) == 0;
            ask.role = if is_other { OTHER_ROLE } else { ROLES[rng.usize(..2)] };
            ask.manner = Manner::draw(ask.kind, ask.body.is_some(), self.weather, rng);
            if ask.patience.is_some() && rng.bool() {
                // Only by giving up does the relay learn that it need not wait.
                ask.manner = Manner::Silent;
            }
            if ask.manner == Manner::Silent && has_vanished {
                // Who says nothing is never told that nobody listens.
                ask.manner = Manner::Closes;
            }
            if ask.manner.is_cut() {
                // There is something to be cut.
                ask.answer = ask.answer.max(2);
            }
        }
    }

    /// The management points behind a connection point.
    pub(crate) fn roles(&self, connection_point: usize) -> &'static [u64] {
        if self.is_split && connection_point + 1 == self.connection_points {
            return &[OTHER_ROLE];
        }
        &ROLES
    }

    /// Whether an instance comes back while sites may not have told it yet what they publish.
    pub(crate) fn may_be_untold(&self, instance: usize) -> bool {
        let returns = |it: &Timed| match it.fault {
            Fault::DrainInstance { instance: it } | Fault::CrashInstance { instance: it, .. } => {
                it == instance
            }
            _ => false,
        };
        self.is_split && self.faults.iter().any(returns)
    }

    /// Whether nothing happens to an instance and to a connection point that serves a role.
    pub(crate) fn leaves_alone(&self, instance: usize, role: u64) -> bool {
        let is_hit = |connection_point: usize| {
            self.faults.iter().any(|timed| match timed.fault {
                Fault::DrainConnectionPoint { connection_point: it } => it == connection_point,
                Fault::DrainInstance { instance: it } => it == instance,
                Fault::CrashSite { .. } | Fault::Rogue { .. } => false,
                _ => true,
            })
        };
        let mut serving = (0..self.connection_points).filter(|it| self.roles(*it).contains(&role));
        serving.any(|connection_point| !is_hit(connection_point))
    }

    fn ask(&self, id: u64, rng: &mut Rng) -> Ask {
        let kind = Kind::ALL[rng.usize(..Kind::ALL.len())];
        let think = match (kind, rng.u8(..4)) {
            (Kind::Held, _) => rng.u64(..20_000),
            (_, 0) => rng.u64(..5000),
            (_, 1) => rng.u64(..1000),
            _ => rng.u64(..50),
        };
        // A fault at rest finds little: most are asked just before one.
        let at = match self.faults.len() {
            0 => within(rng, BUSY),
            _ if rng.u8(..4) == 0 => within(rng, BUSY),
            faults => {
                let fault = self.faults[rng.usize(..faults)].at;
                fault.saturating_sub(Duration::from_millis(think / 2 + rng.u64(..100)))
            }
        };
        let may_have_body = !matches!(kind, Kind::Get | Kind::Head);
        let leaves = self.weather == Weather::Faults && rng.u8(..8) == 0;
        Ask {
            id,
            kind,
            client: rng.usize(..CLIENTS_MAX),
            instance: rng.usize(..self.instances),
            at,
            body: (may_have_body && rng.u8(..3) > 0).then(|| octets(rng)),
            declares: rng.bool(),
            think: Duration::from_millis(think),
            answer: octets(rng),
            answer_declares: rng.bool(),
            patience: leaves.then(|| within(rng, Duration::from_secs(4))),
            forges: rng.bool(),
            manner: Manner::Plain,
            role: ROLES[0],
        }
    }

    fn fault(&self, rng: &mut Rng) -> Timed {
        let at = within(rng, BUSY);
        let connection_point = rng.usize(..self.connection_points);
        let instance = rng.usize(..self.instances);
        let direction = Direction::BOTH[rng.usize(..2)];
        let octet = rng.u64(..8000);
        let crash = if rng.bool() { Crash::Programs } else { Crash::Machine };
        let dials = if rng.bool() { Dials::Refused } else { Dials::Silent };
        let drain = if rng.bool() {
            Fault::DrainConnectionPoint { connection_point }
        } else {
            Fault::DrainInstance { instance }
        };
        let fault = match rng.u8(..12) {
            _ if self.weather == Weather::Drains => drain,
            0 => Fault::CutLink { connection_point, instance },
            1 => Fault::Storm,
            2 | 3 => Fault::CutAt { instance, direction, octet },
            4 => Fault::HoldAt { instance, direction, octet },
            5 => Fault::HoldLink { connection_point, instance, direction },
            6 => Fault::Partition { connection_point, instance, dials },
            7 => Fault::CrashConnectionPoint { connection_point, crash },
            8 => Fault::CrashInstance { instance, crash },
            9 => Fault::CutBackends,
            10 => Fault::Rogue { instance },
            _ => drain,
        };
        let longest = if rng.u8(..3) == 0 { FAULT_LONG } else { FAULT_SHORT };
        let lasts = within(rng, longest);
        Timed { at, lasts, fault }
    }
}

/// One to three, and more often one.
fn few(rng: &mut Rng) -> usize {
    rng.usize(1..=3).min(rng.usize(1..=3))
}

/// A path whose sockets give up what is not acknowledged, as those of links do where they can.
pub(crate) fn giving_up(mut travel: Travel) -> Travel {
    travel.unacknowledged_max = Some(Duration::from_secs(15));
    travel
}

/// A path, good or bad.
fn travel(rng: &mut Rng, latency_ms: u64) -> Travel {
    let mut travel = Travel::default();
    travel.latency_min = Duration::from_millis(rng.u64(..=latency_ms));
    travel.latency_max = travel.latency_min;
    if rng.bool() {
        travel.latency_max += Duration::from_millis(rng.u64(..=latency_ms));
    }
    if rng.u8(..4) == 0 {
        travel.octets_per_second = Some(rng.u64(100_000..2_000_000));
    }
    if rng.u8(..4) == 0 {
        travel.piece_octets_max = Some(rng.usize(64..4000));
    }
    if rng.u8(..4) == 0 {
        travel.buffer_octets = rng.usize(2000..64_000);
    }
    travel
}

/// Mostly few, sometimes more than a window.
fn octets(rng: &mut Rng) -> usize {
    match rng.u8(..12) {
        0 => 0,
        1 => rng.usize(..100_000),
        _ => rng.usize(..3000),
    }
}

fn within(rng: &mut Rng, limit: Duration) -> Duration {
    // Whole milliseconds: the grain of the runtime's clock.
    let grains: u64 = limit.as_millis().try_into().unwrap();
    Duration::from_millis(rng.u64(..grains))
}
