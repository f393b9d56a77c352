use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::UNIX_EPOCH;

use tokio::time::sleep;

use super::*;

/// An instance that has sent what the test says, and what it was told.
#[derive(Clone, Default)]
struct Instance {
    sent: Arc<AtomicU64>,
    told: Arc<Mutex<Vec<bool>>>,
    figures: Figures,
}

impl Instance {
    fn watch(&self, config: EgressConfig) -> anyhow::Result<Watch> {
        let (sent, told) = (Arc::clone(&self.sent), Arc::clone(&self.told));
        let source = Source {
            sent: Box::new(move || sent.load(Ordering::Relaxed)),
            stop: Box::new(move |stop| told.lock().unwrap().push(stop)),
            clock: Box::new(|| UNIX_EPOCH + Duration::from_hours(500_000)),
        };
        Watch::open(config, source, self.figures.clone())
    }

    fn send(&self, octets: u64) {
        self.sent.fetch_add(octets, Ordering::Relaxed);
    }

    fn told(&self) -> Vec<bool> {
        self.told.lock().unwrap().clone()
    }

    fn shown(&self) -> Reading {
        self.figures.read().unwrap()
    }
}

/// Critical from 900 octets on.
fn config(file: PathBuf) -> EgressConfig {
    EgressConfig {
        threshold: 1000,
        warning_percent: 50,
        critical_percent: 90,
        stop_when_critical: true,
        file,
    }
}

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test(start_paused = true)]
async fn it_is_held_against_the_threshold_at_the_start_and_every_six_minutes() {
    let home = tempfile::tempdir().unwrap();
    let (instance, file) = (Instance::default(), home.path().join("egress.json"));
    let watch = instance.watch(config(file.clone())).unwrap();
    assert_eq!(instance.told(), [false]);
    let role = async {
        instance.send(900);
        sleep(CHECK_EVERY.saturating_sub(SECOND)).await;
        assert_eq!((instance.told(), instance.shown().level), (vec![false], Level::Calm));
        assert_eq!((instance.shown().total, instance.shown().kept), (900, 900));
        sleep(SECOND * 2).await;
        assert_eq!((instance.told(), instance.shown().level), (vec![false, true], Level::Critical));
        sleep(CHECK_EVERY.saturating_sub(SECOND * 2)).await;
        assert_eq!(instance.told().len(), 2);
        sleep(SECOND * 2).await;
        assert_eq!(instance.told(), [false, true, true]);
    };
    watch.beside(role).await;

    let again = Instance::default();
    drop(again.watch(config(file.clone())).unwrap());
    assert_eq!((again.told(), again.shown().total), (vec![true], 900), "before it serves");
    let patient = EgressConfig { stop_when_critical: false, ..config(file) };
    let patient_instance = Instance::default();
    drop(patient_instance.watch(patient).unwrap());
    assert!(patient_instance.told().is_empty(), "nobody wants it to stop");
    assert_eq!(patient_instance.shown().level, Level::Critical);
}

#[tokio::test(start_paused = true)]
async fn what_was_sent_is_in_the_file_within_five_seconds_and_all_of_it_at_the_end() {
    let home = tempfile::tempdir().unwrap();
    let (instance, file) = (Instance::default(), home.path().join("egress.json"));
    let kept = || fs::read_to_string(&file).unwrap();
    let role = async {
        sleep(SECOND).await;
        instance.send(7);
        sleep(KEEP_EVERY.saturating_sub(SECOND * 2)).await;
        assert_eq!(kept(), "{\"version\":1,\"hours\":[]}\n");
        sleep(SECOND * 2).await;
        assert_eq!(kept(), "{\"version\":1,\"hours\":[[500000,7]]}\n");
        instance.send(1);
    };
    instance.watch(config(file.clone())).unwrap().beside(role).await;
    assert_eq!(kept(), "{\"version\":1,\"hours\":[[500000,8]]}\n");

    let next = Instance::default();
    let role = async { next.send(2) };
    next.watch(config(file.clone())).unwrap().beside(role).await;
    assert_eq!(kept(), "{\"version\":1,\"hours\":[[500000,10]]}\n");
    assert_eq!((next.shown().total, next.shown().kept), (10, 10));
}

#[tokio::test(start_paused = true)]
async fn sums_that_cannot_be_kept_are_told_and_kept_as_soon_as_they_can_be() {
    let home = tempfile::tempdir().unwrap();
    let folder = home.path().join("sums");
    fs::create_dir(&folder).unwrap();
    let (instance, file) = (Instance::default(), folder.join("egress.json"));
    let watch = instance.watch(config(file.clone())).unwrap();
    let role = async {
        fs::remove_dir_all(&folder).unwrap();
        instance.send(7);
        sleep(KEEP_EVERY + SECOND).await;
        let shown = instance.shown();
        assert_eq!((shown.total, shown.kept), (7, 0));
        let why = shown.fault.unwrap();
        assert!(why.starts_with("cannot keep the sums of [egress] in "), "{why}");
        fs::create_dir(&folder).unwrap();
        sleep(KEEP_EVERY).await;
        assert_eq!((instance.shown().kept, instance.shown().fault), (7, None));
    };
    watch.beside(role).await;
    assert_eq!(read(&file).unwrap().total(500_000), 7);
}

#[test]
fn a_file_of_something_else_is_not_written_over() {
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("egress.json");
    for text in ["service = \"relay.example\"\n", &" ".repeat(100_000)] {
        fs::write(&file, text).unwrap();
        let Err(error) = Instance::default().watch(config(file.clone())) else {
            panic!("it was taken");
        };
        assert!(error.to_string().ends_with("move it away to begin at 0"), "{error:#}");
        assert_eq!(fs::read_to_string(&file).unwrap(), text);
    }
    let absent = Instance::default().watch(config("/nowhere/egress.json".into()));
    assert!(absent.is_err(), "it is known at the start that it cannot be kept");
}

#[test]
fn percents_are_whole_and_of_any_size() {
    assert_eq!(percent(0, 1 << 30), 0);
    assert_eq!([percent(899, 1000), percent(900, 1000)], [89, 90]);
    assert_eq!(percent(u64::MAX, 1), u64::MAX);
}

#[tokio::test(start_paused = true)]
async fn other_figures_hold_as_soon_as_they_are_told_and_sums_stay_where_they_are() {
    let home = tempfile::tempdir().unwrap();
    let (instance, file) = (Instance::default(), home.path().join("egress.json"));
    let watch = instance.watch(config(file.clone())).unwrap();
    let thresholds = watch.thresholds();
    let elsewhere = config(home.path().join("other.json"));
    let role = async {
        instance.send(900);
        thresholds.set(EgressConfig { threshold: 950, ..elsewhere.clone() });
        sleep(SECOND).await;
        assert_eq!((instance.told(), instance.shown().level), (vec![false, true], Level::Critical));
        thresholds.set(EgressConfig { stop_when_critical: false, ..elsewhere.clone() });
        sleep(SECOND).await;
        assert_eq!(instance.told(), [false, true, false], "nobody wants it to stop any more");
        thresholds.set(EgressConfig { threshold: 10_000, ..elsewhere });
        sleep(SECOND).await;
        assert_eq!(instance.shown().level, Level::Calm);
        assert_eq!(instance.shown().config.file, file);
    };
    watch.beside(role).await;
    assert_eq!(read(&file).unwrap().total(500_000), 900);
}
