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
    (MemoryLimit::new("resident", 1000, read), used)
}

#[tokio::test(start_paused = true)]
async fn another_limit_holds_at_once_and_without_any_everything_is_served() {
    let (small, used) = limit();
    *used.lock().unwrap() = Ok(990);
    let (memory, tally) = (Memory::new(Some(small)), counted::tally());
    let mut watch = pin!(memory.watch(&tally));
    let look = async |watch: &mut std::pin::Pin<&mut _>| {
        let _ = tokio::time::timeout(Duration::from_millis(1), watch).await;
        memory.pressure()
    };
    assert_eq!(look(&mut watch).await, Pause);
    memory.set(Some(MemoryLimit::new("resident", 10_000, || Ok(990))));
    assert_eq!(look(&mut watch).await, Calm);
    memory.set(Some(limit().0.and("tcp", 1000, || Ok(900))));
    assert_eq!(look(&mut watch).await, Refuse);
    memory.set(None);
    assert_eq!((look(&mut watch).await, memory.status()), (Calm, None));
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
    let status = MemoryStatus { name: "resident", used: 921, max: 1000, pressure: Pause };
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

/// What a status shows once it has been read that `used` is in use of limits of 1,000 and 10
/// octets.
async fn shown_of_two(used: [io::Result<u64>; 2]) -> MemoryStatus {
    let [resident, tcp] = used.map(|used| {
        move || match &used {
            Ok(used) => Ok(*used),
            Err(error) => Err(error.kind().into()),
        }
    });
    let limit = MemoryLimit::new("resident", 1000, resident).and("tcp", 10, tcp);
    assert!(limit.kinds().eq([("resident", 1000), ("tcp", 10)]));
    let memory = Memory::new(Some(limit));
    let unread = MemoryStatus { name: "resident", used: 0, max: 1000, pressure: Calm };
    assert_eq!(memory.status(), Some(unread));
    let tally = counted::tally();
    tokio::select! {
        biased;
        never = memory.watch(&tally) => match never {},
        () = tokio::task::yield_now() => {}
    }
    memory.status().unwrap()
}

#[tokio::test(start_paused = true)]
async fn the_kind_that_is_fullest_is_judged_and_shown() {
    for (used, name, pressure) in [
        ([0, 0], "resident", Calm),
        ([800, 8], "resident", Calm),
        ([799, 8], "tcp", Calm),
        ([801, 8], "resident", Calm),
        ([851, 8], "resident", Refuse),
        ([850, 9], "tcp", Refuse),
        ([901, 9], "resident", Refuse),
        ([1, 10], "tcp", Pause),
        ([u64::MAX, 10], "resident", Pause),
    ] {
        let status = shown_of_two(used.map(Ok)).await;
        let max = if name == "tcp" { 10 } else { 1000 };
        let used = if name == "tcp" { used[1] } else { used[0] };
        assert_eq!(status, MemoryStatus { name, used, max, pressure });
    }
}

#[tokio::test(start_paused = true)]
async fn a_kind_that_cannot_be_read_hides_none_that_can() {
    let fails = || Err(io::ErrorKind::NotFound.into());
    let resident = MemoryStatus { name: "resident", used: 851, max: 1000, pressure: Refuse };
    assert_eq!(shown_of_two([Ok(851), fails()]).await, resident);
    let tcp = MemoryStatus { name: "tcp", used: 9, max: 10, pressure: Refuse };
    assert_eq!(shown_of_two([fails(), Ok(9)]).await, tcp);
    let unread = MemoryStatus { name: "resident", used: 0, max: 1000, pressure: Calm };
    assert_eq!(shown_of_two([fails(), fails()]).await, unread);
}
