//! Locations that a store honours no more: the gateway is asked for another, once, and the file is
//! gone on with where it was.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::super::package::{list, url_at};
use super::*;
use crate::support::recorder::Package;

/// A file that a client has some of when its location is over.
const NAME: &str = "Data/large.cab";

/// Where a gateway is asked for a file: by the package's grant, so that nobody is asked first.
fn is_for_file(asked: &Asked) -> bool {
    asked.line.contains("&file=")
}

fn redirect(to: &str) -> Response<Said> {
    let answer = Response::builder().status(307).header("location", to);
    answer.body(Said::whole("")).unwrap()
}

/// What a store says of a location that is over.
fn over() -> Response<Said> {
    answer(403, "<Error><Code>AuthenticationFailed</Code><Message>hiddenhiddenhidden</Message>")
}

/// A store of one file: the location `1` is over once it has given half of that, `2` never, any
/// other always was.
fn store(octets: &[u8]) -> (Origin, impl Fn(&str) -> String + use<>) {
    let package = Package::of(&[(NAME, octets)]);
    let (half, given) = (octets[..octets.len() / 2].to_vec(), Arc::new(AtomicUsize::new(0)));
    let origin = Origin::start(move |asked| match asked.line.rsplit("?sig=").next().unwrap() {
        "1" if given.fetch_add(1, Ordering::SeqCst) == 0 => {
            let mut answer = package.answer(asked);
            *answer.body_mut() = Said::cut(half.clone());
            answer
        }
        "2" => package.answer(asked),
        _ => over(),
    });
    let (at, sha256) = (origin.at, format!("{:x}", Sha256::digest(octets)));
    (origin, move |sig: &str| format!("http://{at}/relay-files/PS100012/{sha256}?sig={sig}"))
}

/// Fetches what a gateway lists at `first`, which sends whoever asks again to `second`; the status,
/// the report, and how often it was asked for the file.
fn fetch(home: &Path, octets: &[u8], first: &str, again: Response<String>) -> (i32, Value, usize) {
    let sha256 = format!("{:x}", Sha256::digest(octets));
    let text = list(&[(NAME, "", first)]);
    let mut listed: Value = serde_json::from_str(&text).unwrap();
    listed["files"][0]["octets"] = octets.len().into();
    listed["files"][0]["sha256"] = sha256.into();
    let text = listed.to_string();
    let gateway = Origin::start(move |asked| {
        if is_for_file(asked) { again.clone().map(Said::whole) } else { answer_of(&text) }
    });
    let args = ["download", &url_at(gateway.at), "out", "--package", "--json", "--tries", "3"];
    let done = run(home, &args);
    let report = serde_json::from_slice(&done.stdout).unwrap();
    let asked = gateway.seen().iter().filter(|it| is_for_file(it)).count();
    (done.status.code().unwrap(), report, asked)
}

fn answer_of(text: &str) -> Response<Said> {
    Response::new(Said::whole(text.to_owned()))
}

fn to(location: &str) -> Response<String> {
    redirect(location).map(|_| String::new())
}

#[test]
fn a_location_that_ends_in_the_midst_of_a_file_is_asked_for_anew_and_the_file_gone_on_with() {
    let (home, octets) = (tempfile::tempdir().unwrap(), octets(20_000));
    let (origin, at) = store(&octets);
    let (status, report, asked) = fetch(home.path(), &octets, &at("1"), to(&at("2")));
    assert_eq!((status, &report["resumed"]), (0, &1.into()), "{report:#}");
    assert_eq!((asked, &report["bytes_fetched"]), (1, &20_000.into()), "{report:#}");
    assert!(fs::read(home.path().join("out").join(NAME)).unwrap() == octets);
    let ranges: Vec<_> = origin.seen().iter().map(|it| it.header("range").to_owned()).collect();
    // The first, what was refused of it, and the rest.
    assert_eq!(ranges, ["", "bytes=10000-", "bytes=10000-"]);
}

#[test]
fn a_location_that_is_refused_again_is_asked_for_no_more_and_told_as_what_it_is() {
    let octets = octets(20_000);
    for (first, refused) in [("3", 2), ("1", 2)] {
        let home = tempfile::tempdir().unwrap();
        let (origin, at) = store(&octets);
        let (status, report, asked) = fetch(home.path(), &octets, &at(first), to(&at("4")));
        assert_eq!((status, asked), (1, 1), "{report:#}");
        assert_eq!((&report["hop"], &report["status"]), (&"store".into(), &403.into()));
        assert_eq!(report["said"], "AuthenticationFailed", "{report:#}");
        let means = report["means"].as_str().unwrap();
        assert!(means.contains("also one that the gateway has signed anew"), "{report:#}");
        assert!(report["next"].as_str().unwrap().contains("clocks"), "{report:#}");
        let all = origin.seen().len();
        assert_eq!(all, if first == "1" { refused + 1 } else { refused });
        assert!(!home.path().join("out").join(NAME).exists());
    }
    // Whoever granted it has an end as well, and the gateway says so.
    let home = tempfile::tempdir().unwrap();
    let (_origin, at) = store(&octets);
    let over = Response::builder()
        .status(403)
        .header("relay-message-id", "0f8fad5b-d9cb-469f-a165-70867728950e")
        .header("relay-reason", "CMGService_Grant_Over");
    let over = over.body(String::new()).unwrap();
    let (status, report, asked) = fetch(home.path(), &octets, &at("1"), over);
    assert_eq!((status, asked, &report["hop"]), (1, 1, &"gateway".into()), "{report:#}");
    assert_eq!(report["reason"], "CMGService_Grant_Over");
    let part = format!("{:x}.part", Sha256::digest(NAME));
    let part = home.path().join("out/.relay-parts").join(part);
    assert_eq!(fs::metadata(part).unwrap().len(), 10_000, "the next run goes on from there");
}

#[test]
fn a_location_that_azure_holds_for_over_is_asked_for_anew_and_the_file_gone_on_with() {
    let Some(store) = Store::azurite() else { return };
    let scene = Scene::new(&store);
    scene.content(&PUT);
    let good = scene.list()["files"][1]["location"].as_str().unwrap().to_owned();
    let (place, _) = good.split_once('?').unwrap();
    let past = store.signed_until(place, "2020-01-01T00:00:00Z");
    let refused = ask("GET", &past, &[]);
    assert_eq!(refused.status, 403, "the store itself judges");
    assert_eq!(ask("GET", &store.signed_until(place, "2099-01-01T00:00:00Z"), &[]).status, 200);
    // What a run before has left.
    let parts = scene.relay.path("out/.relay-parts");
    fs::create_dir_all(&parts).unwrap();
    let (name, sha256) = (format!("{:x}", Sha256::digest(NAME)), Sha256::digest(&scene.large));
    fs::write(parts.join(format!("{name}.part")), &scene.large[..3_000_000]).unwrap();
    let tag = ask("GET", &good, &[("range", "bytes=0-0")]).field("etag").unwrap().to_owned();
    let known = serde_json::json!({
        "url": format!("sha256:{sha256:x}"), "validator": tag, "total": scene.large.len()
    });
    fs::write(parts.join(format!("{name}.part.json")), known.to_string()).unwrap();
    let (status, report, asked) = fetch(scene.relay.home.path(), &scene.large, &past, to(&good));
    assert_eq!((status, asked, &report["resumed"]), (0, 1, &1.into()), "{report:#}");
    assert_eq!(report["bytes_fetched"], 6_000_000, "{report:#}");
    assert!(fs::read(scene.relay.path("out").join(NAME)).unwrap() == scene.large);
}

#[test]
fn a_store_whose_clock_is_behind_or_ahead_honours_a_location_until_it_is_over_there() {
    // Seconds by which it is ahead, the hours of a grant, and whether it counts by then.
    for (ahead, hours, is_good) in [(-840, "1", true), (3_660, "2", true), (3_660, "1", false)] {
        let Some(store) = Store::azurite_ahead(ahead) else { return };
        let mut scene = Scene::new(&store);
        scene.content(&PUT);
        let url = scene.grant(&["--hours", hours]);
        let (status, report) = scene.fetch(&url, "out", &["--package", "--parallel", "1"]);
        if is_good {
            assert_eq!((status, &report["files_fetched"]), (0, &3.into()), "{report:#}");
            continue;
        }
        assert_eq!((status, &report["hop"]), (1, &"store".into()), "{report:#}");
        assert_eq!(report["said"], "AuthorizationFailure", "{report:#}");
        assert!(report["next"].as_str().unwrap().contains("clocks"), "{report:#}");
        assert!(!scene.relay.path("out/setup.exe").exists());
        scene.relay.gateway.wait_for_log("redirected_to", 1);
        let lines = scene.relay.gateway.stop().1;
        let anew = lines.iter().filter(|it| it.contains("redirected_to")).count();
        assert_eq!(anew, 1, "the gateway was asked once, and no other file was begun");
    }
}
