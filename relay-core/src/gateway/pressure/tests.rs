use std::sync::Mutex;

use super::*;

use Pressure::{Calm, Pause, Refuse};

#[test]
fn each_cell_of_the_table_holds_below_at_and_above_its_limit() {
    // Octets of 1,000: an octet is a tenth of a percent.
    for (before, cells) in [
        (Calm, [(800, Calm), (850, Calm), (870, Refuse), (920, Refuse), (1000, Pause)]),
        (Refuse, [(800, Calm), (850, Refuse), (870, Refuse), (920, Refuse), (1000, Pause)]),
        (Pause, [(800, Calm), (850, Refuse), (870, Refuse), (920, Pause), (1000, Pause)]),
    ] {
        let mut low = 0;
        for (high, then) in cells {
            for used in [low, low + 1, high - 1, high] {
                assert_eq!(before.after(used, 1000), then, "{before:?} with {used}");
            }
            low = high + 1;
        }
    }
}

#[test]
fn no_figure_is_too_large_to_be_judged() {
    assert_eq!(Calm.after(u64::MAX, u64::MAX), Pause);
    assert_eq!(Calm.after(u64::MAX / 100 * 85, u64::MAX), Calm);
    assert_eq!(Pause.after(0, 0), Calm);
    assert_eq!(Calm.after(1, 0), Pause);
}

/// A limit of 1,000 octets, and what is in use of them.
fn limit() -> (MemoryLimit, Arc<Mutex<io::Result<u64>>>) {
    let used = Arc::new(Mutex::new(io::Result::Ok(0)));
    let read = Arc::clone(&used);
    let read = move || match &*read.lock().unwrap() {
        Ok(used) => Ok(*used),
        Err(error) => Err(error.kind().into()),
    };
    (MemoryLimit::new(1000, read), used)
}

#[tokio::test(start_paused = true)]
async fn it_is_read_at_once_and_then_four_times_a_second() {
    let (limit, used) = limit();
    *used.lock().unwrap() = Ok(851);
    let memory = Arc::new(Memory::new(Some(limit)));
    assert_eq!(memory.pressure(), Calm);
    let watched = Arc::clone(&memory);
    let watch = tokio::spawn(async move { watched.watch(&counted::tally()).await });
    tokio::task::yield_now().await;
    assert_eq!(memory.pressure(), Refuse);
    *used.lock().unwrap() = Ok(921);
    tokio::time::sleep(READ_EVERY.checked_sub(Duration::from_millis(1)).unwrap()).await;
    assert_eq!(memory.pressure(), Refuse);
    tokio::time::sleep(Duration::from_millis(2)).await;
    assert_eq!(memory.pressure(), Pause);
    let status = MemoryStatus { used: 921, max: 1000, pressure: Pause };
    assert_eq!(memory.status(), Some(status));
    watch.abort();
}

#[tokio::test(start_paused = true)]
async fn whoever_waits_to_accept_is_woken_when_that_may_be_and_while_it_may_be_goes_on_at_once() {
    let (limit, used) = limit();
    let memory = Arc::new(Memory::new(Some(limit)));
    let watched = Arc::clone(&memory);
    let watch = tokio::spawn(async move { watched.watch(&counted::tally()).await });
    memory.may_accept().await;
    *used.lock().unwrap() = Ok(921);
    memory.may_not_accept().await;
    *used.lock().unwrap() = Ok(870);
    memory.may_accept().await;
    assert_eq!(memory.pressure(), Refuse);
    watch.abort();
}

#[tokio::test(start_paused = true)]
async fn nothing_is_refused_for_a_figure_that_cannot_be_read() {
    let (limit, used) = limit();
    *used.lock().unwrap() = Ok(921);
    let memory = Arc::new(Memory::new(Some(limit)));
    let watched = Arc::clone(&memory);
    let watch = tokio::spawn(async move { watched.watch(&counted::tally()).await });
    memory.may_not_accept().await;
    *used.lock().unwrap() = Err(io::ErrorKind::NotFound.into());
    memory.may_accept().await;
    assert_eq!(memory.pressure(), Calm);
    watch.abort();
}
