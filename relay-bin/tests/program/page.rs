//! The status page of real roles in a real browser.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;

use http::Response;
use rcgen::ExtendedKeyUsagePurpose;
use serde_json::{Value, json};

use crate::egress::have_sent;
use crate::material::let_grow_old;
use crate::support::browser::{Browser, DOWN, ENTER, REBOUND, SPACE, TAB};
use crate::support::origin::{Origin, Said};
use crate::support::role::Role;
use crate::support::site::{HTTPS_ROLE, SERVICE, Site};

/// What a page is held to.
const CHECKS: &str = include_str!("page/checks.js");

/// Whatever is reached by keyboard.
const CONTROLS: &str = "a[href], button, select, summary, [tabindex='0']";

/// Two instances, a connection point with two links to each, and where all are administered.
struct Bed {
    gateways: [Role; 2],
    point: Role,
    at: [SocketAddr; 3],
}

impl Bed {
    fn start(site: &Site) -> Self {
        let mut gateways = [1, 2].map(|number| site.start_gateway(number));
        let links = gateways.each_mut().map(|it| it.addresses()[1]);
        let mut point = site.start_connection_point(&links);
        for gateway in &mut gateways {
            gateway.wait_for_log("\"message\":\"link up\"", 2);
            gateway.wait_for_log("settings applied", 1);
        }
        point.wait_for_log("settings published", 2);
        let [first, second] = gateways.each_mut().map(Role::admin);
        let at = [first, second, point.admin()];
        Self { gateways, point, at }
    }
}

fn page(at: SocketAddr) -> String {
    format!("http://{at}/")
}

/// A condition: the row of a table that has this text in its header has all of these.
fn row(table: &str, header: &str, parts: &[&str]) -> String {
    let (header, parts) = (json!(header), json!(parts));
    format!(
        "const rows = [...document.querySelectorAll('#{table}-rows tr')];
         const row = rows.find((it) => it.cells[0].textContent.includes({header}));
         return row && {parts}.every((it) => row.textContent.includes(it)) && row.textContent;"
    )
}

fn text(browser: &Browser, selector: &str) -> String {
    let told = browser.run(&format!("return document.querySelector('{selector}').textContent"));
    told.as_str().unwrap().to_owned()
}

/// Has a client ask for something of the role; whatever is answered.
fn ask_as_client(site: &Site, clients: SocketAddr, role_id: u64) {
    let port = clients.port();
    let url = format!("https://{SERVICE}:{port}/CCM_Proxy_ServerAuth/{role_id}/SMS_MP/list");
    Command::new(env!("CARGO_BIN_EXE_relay"))
        .args(["client", "request", "GET", &url, "--resolve", &format!("{SERVICE}:127.0.0.1")])
        .args(["--ca", site.ca().to_str().unwrap()])
        .output()
        .unwrap();
}

#[test]
fn both_roles_show_their_links_and_why_one_is_lost_without_a_reload() {
    let Some(browser) = Browser::start() else { return };
    let home = tempfile::tempdir().unwrap();
    let site = Site::init_with(home.path(), &["--backend", "http://127.0.0.1:9"]);
    let mut bed = Bed::start(&site);

    browser.open(&page(bed.at[2]));
    for instance in ["instance 1", "instance 2"] {
        let told = browser.wait_for(&row("links", instance, &["2 of 2 up", "tcp-tls, RTT "]));
        println!("{told}");
    }
    assert_eq!(text(&browser, "h1"), "Connection point connection-point-1");
    assert_eq!(text(&browser, "#ready"), "● ready");
    let spoken = text(&browser, "#said");
    assert!(!spoken.contains(" up"), "what was so from the beginning is no change: {spoken}");
    browser.run(
        "window.mark = 'the same document';
         window.spoken = [];
         const said = document.getElementById('said');
         const note = () => window.spoken.push(said.textContent);
         new MutationObserver(note).observe(said, { childList: true });",
    );
    bed.gateways[1].kill();
    let lost = row("links", "instance 2", &["✕ down", "waiting", "dials in", "refused"]);
    println!("{}", browser.wait_for(&lost));
    let spoken = "return window.spoken.find((it) => it.includes('instance 2: down'))";
    println!("spoken: {}", browser.wait_for(spoken));
    let listed = text(&browser, "#wrong");
    assert!(listed.contains("✕ fault instance 2: down: "), "{listed}");
    let listed = text(&browser, "#changes-list");
    assert!(listed.contains("UTC instance 2: "), "{listed}");
    assert_eq!(browser.run("return window.mark"), "the same document");

    browser.open(&page(bed.at[0]));
    let up = ["2 up", "link 1, up ", "link 2, up ", "tcp-tls, RTT "];
    println!("{}", browser.wait_for(&row("links", "connection-point-1", &up)));
    assert_eq!(text(&browser, "h1"), "Gateway instance 1 of relay.example");
    browser.run("window.mark = 'the same document'");
    bed.point.kill();
    let lost = row("links", "connection-point-1", &["✕ down", "link 1 ended "]);
    let lost_too = row("links", "connection-point-1", &["✕ down", "link 2 ended "]);
    let either = format!("{{ const it = (() => {{ {lost} }})(); if (it) return it; }} {lost_too}");
    println!("{}", browser.wait_for(&either));
    let not_ready = "return document.getElementById('ready').textContent === '✕ not ready'";
    browser.wait_for(not_ready);
    let reason = "not ready: no link is up: look at the log of the connection points";
    assert!(text(&browser, "#wrong").contains(reason));
    assert_eq!(browser.run("return window.mark"), "the same document");
    assert_eq!(browser.console(), Vec::<String>::new());
}

#[test]
fn a_role_that_goes_away_is_said_to_be_stale_until_it_answers_again() {
    let Some(browser) = Browser::start() else { return };
    let home = tempfile::tempdir().unwrap();
    let site = Site::init_with(home.path(), &["--backend", "http://127.0.0.1:9"]);
    let mut bed = Bed::start(&site);
    browser.open(&page(bed.at[0]));
    browser.wait_for(&row("links", "connection-point-1", &["2 up"]));
    let stale = "const it = document.getElementById('stale');
                 return !it.hidden && it.textContent.includes('What is below is of ')
                   && document.title.startsWith('stale') && it.textContent;";
    let fresh = "return document.getElementById('stale').hidden
                 && !document.title.startsWith('stale')";

    bed.gateways[0].signal("STOP");
    println!("{}", browser.wait_for(stale));
    bed.gateways[0].signal("CONT");
    browser.wait_for(fresh);
    assert!(text(&browser, "#changes-list").contains("The role answers again"));

    bed.gateways[0].kill();
    let told = browser.wait_for(stale);
    assert!(told.as_str().unwrap().contains("The role does not answer; has it stopped?"), "{told}");
    let spoken = text(&browser, "#said");
    assert!(spoken.contains("The role does not answer"), "{spoken}");
    let still = browser.run(&row("links", "connection-point-1", &[]));
    assert!(still.is_string(), "what was known stays to be read");
}

#[test]
fn whoever_cannot_see_it_or_not_well_is_told_the_same() {
    let Some(browser) = Browser::start() else { return };
    let home = tempfile::tempdir().unwrap();
    let site = Site::init_with(home.path(), &["--backend", "http://127.0.0.1:9"]);
    let mut bed = Bed::start(&site);
    ask_as_client(&site, bed.gateways[0].addresses()[0], HTTPS_ROLE);
    bed.gateways[1].kill();

    let ready = [
        (bed.at[0], row("endpoints", "default", &["▲ 1"])),
        (bed.at[2], row("links", "instance 2", &["✕ down"])),
    ];
    for (at, condition) in ready {
        for (width, scheme) in [(1280, "light"), (1280, "dark"), (320, "light"), (320, "dark")] {
            browser.show_as(width, scheme);
            browser.open(&page(at));
            browser.wait_for(&condition);
            browser.run("document.querySelectorAll('details').forEach((it) => (it.open = true))");
            let faults = browser.run(CHECKS);
            assert_eq!(faults, json!([]), "{at}, {width} pixels, {scheme}: {faults:#}");
        }
        let named = browser.named(&format!("{CONTROLS}, section, nav, [role], meter"));
        println!("{named:?}");
        for (role, name) in &named {
            assert!(!name.is_empty() || role == "status", "a {role} without a name: {named:?}");
        }
        let sparks = named.iter().filter(|(role, _)| role == "img" || role == "image");
        let is_gateway = at == bed.at[0];
        assert!(sparks.clone().count() == usize::from(is_gateway), "{named:?}");
        for (_, spark) in sparks {
            // The clock may have come to a new window meanwhile.
            let told = ["5 min", "10 min"].map(|it| format!("1 request in {it}, 1 failed"));
            assert!(told.iter().any(|told| spark.starts_with(told)), "{spark}");
        }
    }

    // The checks can fail.
    browser.run(
        "document.querySelector('h1').style.color = '#777';
         document.querySelector('tbody th').removeAttribute('scope');
         document.querySelector('main').style.width = '500px';",
    );
    let faults = browser.run(CHECKS).to_string();
    for fault in ["contrast ", "no scope", "wider than its window"] {
        assert!(faults.contains(fault), "{faults}");
    }
}

#[test]
fn everything_is_reached_and_used_by_keyboard_alone() {
    let Some(browser) = Browser::start() else { return };
    let home = tempfile::tempdir().unwrap();
    let site = Site::init_with(home.path(), &["--backend", "http://127.0.0.1:9"]);
    let mut bed = Bed::start(&site);
    ask_as_client(&site, bed.gateways[0].addresses()[0], HTTPS_ROLE);
    // So narrow that tables have to be scrolled.
    browser.show_as(320, "light");
    browser.open(&page(bed.at[0]));
    browser.wait_for(&row("endpoints", "default", &["▲ 1"]));

    // The first two: past the navigation, and a page that stands still from now on.
    browser.press(TAB);
    assert_eq!(browser.run("return document.activeElement.className"), "skip");
    browser.press(ENTER);
    assert_eq!(browser.run("return document.activeElement.id"), "main");
    browser.run("document.activeElement.blur(); document.getElementById('pause').focus()");
    browser.press(SPACE);
    let paused = "return document.getElementById('stale').textContent.includes('are paused')
                  && document.getElementById('pause').ariaPressed === 'true'";
    browser.wait_for(paused);

    browser.open(&page(bed.at[0]));
    browser.wait_for(&row("endpoints", "default", &["▲ 1"]));
    let find = format!(
        "window.stops = [...document.querySelectorAll(\"{CONTROLS}\")]
           .filter((it) => it.checkVisibility());
         return window.stops.map((it) => it.outerHTML.slice(0, 60));"
    );
    let stops = browser.run(&find);
    let stops = stops.as_array().unwrap();
    let is_scrolled = |it: &Value| it.as_str().unwrap().starts_with("<div class=\"wide\"");
    assert!(stops.iter().any(is_scrolled), "{stops:#?}");
    let stands = "const it = document.activeElement;
                  const { outlineStyle, outlineWidth } = getComputedStyle(it);
                  const is_seen = outlineStyle !== 'none' && parseFloat(outlineWidth) >= 2;
                  return [window.stops.indexOf(it), is_seen];";
    for (at, stop) in stops.iter().enumerate() {
        browser.press(TAB);
        assert_eq!(browser.run(stands), json!([at, true]), "{stop}");
    }
    println!("{} stops in their order: {stops:#?}", stops.len());

    // A list of figures is chosen from, and a part that is folded is unfolded.
    browser.run("document.getElementById('span').focus()");
    browser.press(DOWN);
    let chosen = browser.run("return document.getElementById('span').value");
    assert_eq!(chosen, "12", "the last hour");
    browser.run("document.querySelector('#windows summary').focus()");
    browser.press(ENTER);
    browser.wait_for(&row("windows", "UTC", &["default"]));
    assert_eq!(browser.console(), Vec::<String>::new());
}

#[test]
fn what_the_file_on_disk_is_worth_is_shown_and_spoken() {
    const FILE: &str = "gateway-1/gateway.toml";
    let Some(browser) = Browser::start() else { return };
    let home = tempfile::tempdir().unwrap();
    let site = Site::init_with(home.path(), &["--backend", "http://127.0.0.1:9"]);
    let bed = Bed::start(&site);
    browser.open(&page(bed.at[0]));
    browser.wait_for(&row("links", "connection-point-1", &["2 up"]));
    let put = |from: &str, to: &str| {
        site.edit(FILE, |text| {
            assert!(text.contains(from), "{text}");
            text.replacen(from, to, 1)
        });
        bed.gateways[0].signal("HUP");
    };
    let has = |id: &str, words: &str| {
        let (id, words) = (json!(id), json!(words));
        let list = format!("document.getElementById({id}).textContent");
        browser.wait_for(&format!("return {list}.includes({words}) && {list}"))
    };

    put("instance = 1", "instance = 17");
    let unusable = "the file on disk cannot be used, what was before holds: ";
    println!("{}", has("wrong", &format!("✕ fault {unusable}")));
    has("said", unusable);
    put("instance = 17", "instance = 1");
    has("changes-list", "the file on disk holds");
    assert!(!text(&browser, "#wrong").contains(unusable), "what is mended is wrong no more");
    put("# quic = true", "quic = true");
    has("wrong", "▲ warning changed on disk, waits for the next start: links.quic");
    assert_eq!(browser.console(), Vec::<String>::new());
}

#[test]
fn egress_is_shown_against_its_threshold_and_what_ends_first_stands_first() {
    const FILES: [&str; 2] = ["site/gateway-1/links.pem", "site/gateway-1/links-key.pem"];
    const NAME: &str = "gateway-1.relay.example";
    let Some(browser) = Browser::start() else { return };
    let home = tempfile::tempdir().unwrap();
    let site = Site::init_with(home.path(), &["--backend", "http://127.0.0.1:9"]);
    site.edit("gateway-1/gateway.toml", |text| text + "\n[egress]\nthreshold_gibibytes = 1\n");
    have_sent(home.path(), (1 << 30) / 10 * 6 + 10);
    let_grow_old(home.path(), FILES, NAME, ExtendedKeyUsagePurpose::ServerAuth);
    let bed = Bed::start(&site);
    browser.open(&page(bed.at[0]));
    browser.wait_for(&row("expiry", "link certificate", &["0 days left", NAME, "links.pem"]));
    assert!(text(&browser, "#expiry-rows tr").contains(NAME), "the next end first");
    let told = text(&browser, "#egress-text");
    assert!(told.contains("warning") && told.contains(" in 14 days, 60 %"), "{told}");
    let bar = browser.run(
        "const it = document.getElementById('egress-bar');
         return [it.hidden, it.low, it.high, it.value]",
    );
    assert_eq!(bar, json!([false, 50, 90, 60]));
    assert!(text(&browser, "#wrong").contains("egress: warning, 60 % of the threshold"));
}

#[test]
fn strokes_are_said_to_be_of_the_time_that_there_are_windows_of() {
    let Some(browser) = Browser::start() else { return };
    let home = tempfile::tempdir().unwrap();
    let site = Site::init_with(home.path(), &["--backend", "http://127.0.0.1:9"]);
    let mut bed = Bed::start(&site);
    ask_as_client(&site, bed.gateways[0].addresses()[0], HTTPS_ROLE);
    browser.open(&page(bed.at[0]));
    browser.wait_for(&row("endpoints", "default", &["▲ 1"]));
    let (head, caption) = (text(&browser, "#spark-head"), text(&browser, "#endpoints-caption"));
    assert!(["5 min", "10 min"].contains(&&*head), "{head}");
    let began = format!("A stroke for each five minutes of the last {head}: ");
    assert!(caption.starts_with(&began), "{caption}");

    // As the page has it, whose own functions nobody else reaches.
    let functions = concat!(
        include_str!("../../src/admin/page/words.js"),
        include_str!("../../src/admin/page/endpoints.js")
    );
    let of_windows = "const at = (ago) => new Date(Date.UTC(2026, 0, 3) - ago * 300000);
         const window = (ago) => ({ begun_at: at(ago).toISOString() });
         const of = (count) => held([...Array(count).keys()].map(window).reverse());
         return [0, 1, 287, 288, 300].map(of);";
    let told = browser.run(&format!("{functions}{of_windows}"));
    assert_eq!(told, json!(["5 min", "5 min", "23 h 55 min", "24 hours", "24 hours"]));
}

#[test]
fn it_asks_nobody_else_and_nobody_elses_page_reads_it() {
    let Some(browser) = Browser::start() else { return };
    let home = tempfile::tempdir().unwrap();
    let site = Site::init_with(home.path(), &["--backend", "http://127.0.0.1:9"]);
    let bed = Bed::start(&site);
    let at = bed.at[0];
    // Of what the browser asks of itself at its start nothing is counted.
    browser.open("about:blank");
    browser.requests();
    browser.open(&page(at));
    browser.wait_for(&row("links", "connection-point-1", &["2 up"]));
    let asked = browser.requests();
    let own = |url: &&String| url.starts_with(&page(at)) || url.as_str() == "data:,";
    assert!(asked.iter().any(|url| url.ends_with("/status.json")), "{asked:?}");
    assert_eq!(asked.iter().filter(own).count(), asked.len(), "{asked:?}");
    assert_eq!(browser.console(), Vec::<String>::new(), "no fault, and nothing refused");

    // Its policy holds: what a page must not do is refused, and would have been seen above.
    let markup = "try { document.querySelector('main').innerHTML = '<b>b</b>'; return 'done' }
                  catch (error) { return error.name }";
    assert_eq!(browser.run(markup), "TypeError");
    let elsewhere = "return await fetch('http://127.0.0.1:9/', { mode: 'no-cors' })
                       .then(() => 'done', (error) => error.name)";
    assert_eq!(browser.run_to_end(elsewhere), "TypeError");
    let refused = browser.console().join("\n");
    assert!(refused.contains("Content Security Policy"), "{refused}");

    // By the other name of loopback it is the same page.
    browser.open(&format!("http://localhost:{}/", at.port()));
    browser.wait_for(&row("links", "connection-point-1", &["2 up"]));

    // A page of another port of this machine, and one whose name was made to resolve to it.
    let other = Origin::start(|_| Response::new(Said::whole("another page")));
    browser.open(&page(other.at));
    let read = |url: &str, mode: &str| {
        browser.run_to_end(&format!(
            "return await fetch('{url}', {{ mode: '{mode}' }})
               .then(async (it) => [it.status, await it.text()], (error) => error.name)"
        ))
    };
    for mode in ["cors", "no-cors"] {
        for path in ["", "status.json", "metrics"] {
            assert_eq!(read(&format!("{}{path}", page(at)), mode), "TypeError", "{mode} {path}");
        }
    }
    browser.open(&format!("http://{REBOUND}:{}/", at.port()));
    let refused = json!({ "error": "name this listener by its loopback address" });
    for path in ["/", "/status.json"] {
        let told = read(path, "same-origin");
        assert_eq!(told[0], 403, "{path}");
        let body: Value = serde_json::from_str(told[1].as_str().unwrap()).unwrap();
        assert_eq!(body, refused, "{path}");
    }
}

#[test]
fn a_hostile_name_is_text_and_nothing_else() {
    const NAME: &str = "</th><img src=x onerror=hit=1><script>hit=1</script>";
    let Some(browser) = Browser::start() else { return };
    let home = tempfile::tempdir().unwrap();
    let site = Site::init_with(home.path(), &["--backend", "http://127.0.0.1:9"]);
    site.edit("connection-point/connection-point.toml", |text| {
        text + &format!(
            "\n[[endpoint]]\nname = '{NAME}'\nkind = \"management-point\"\nrole_id = 7\n\
             unsafe_allow_anonymous = true\nbackend = \"http://127.0.0.1:9\"\n"
        )
    });
    let mut bed = Bed::start(&site);
    ask_as_client(&site, bed.gateways[0].addresses()[0], 7);

    let conditions = [
        (bed.at[0], row("endpoints", NAME, &[NAME, "▲ 1"])),
        (
            bed.at[2],
            "return document.getElementById('roles-rows').textContent.includes(NAME)"
                .replace("NAME", &json!(NAME).to_string()),
        ),
    ];
    for (at, condition) in conditions {
        browser.open(&page(at));
        browser.wait_for(&condition);
        let made = "return [document.querySelectorAll('img, main script').length, typeof hit]";
        assert_eq!(browser.run(made), json!([0, "undefined"]));
        assert_eq!(browser.console(), Vec::<String>::new(), "nothing was even tried");
    }
}

#[test]
fn the_page_comes_with_a_policy_that_allows_its_own_parts_alone() {
    let home = tempfile::tempdir().unwrap();
    let site = Site::init_with(home.path(), &["--backend", "http://127.0.0.1:9"]);
    let mut gateway = site.start_gateway(1);
    let admin = gateway.admin();
    let head = |path: &str| {
        let mut stream = TcpStream::connect(admin).unwrap();
        let asked = format!("HEAD {path} HTTP/1.1\r\nHost: {admin}\r\nConnection: close\r\n\r\n");
        stream.write_all(asked.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    };
    let of_page = head("/");
    assert!(of_page.starts_with("HTTP/1.1 200 OK\r\n"), "{of_page}");
    let (_, policy) = of_page.split_once("content-security-policy: ").unwrap();
    let policy = policy.lines().next().unwrap();
    for part in ["default-src 'none';", "script-src 'sha256-", "frame-ancestors 'none';"] {
        assert!(policy.contains(part), "{policy}");
    }
    for wide in ["unsafe", "http", "*"] {
        assert!(!policy.contains(wide), "{policy}");
    }
    for answer in [of_page, head("/status.json"), head("/metrics"), head("/nothing")] {
        assert!(answer.contains("x-content-type-options: nosniff\r\n"), "{answer}");
        assert!(answer.contains("cross-origin-resource-policy: same-origin\r\n"), "{answer}");
    }
    assert_eq!(gateway.stop().0, Some(0));
}
