//! Debian's Chromium without a screen, driven over `WebDriver` by its own `chromedriver`.
//!
//! `WebDriver` is JSON over HTTP: <https://www.w3.org/TR/webdriver2/>.

use std::io::{self, BufRead as _, BufReader, ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;

/// A name that this browser alone resolves, to loopback: as one of DNS rebinding.
pub(crate) const REBOUND: &str = "rebound.example";

/// The key that goes to the next control, as `WebDriver` writes it.
pub(crate) const TAB: &str = "\u{e004}";

pub(crate) const DOWN: &str = "\u{e015}";

pub(crate) const ENTER: &str = "\u{e007}";

pub(crate) const SPACE: &str = " ";

/// No command takes this long; only a hang does.
const HANG: Duration = Duration::from_mins(2);

/// How long a condition may take to hold.
const PATIENCE: Duration = Duration::from_secs(90);

/// Has `done` told what `holds` returns, once that is something.
const WAIT: &str = "
const observer = new MutationObserver(look);
function look() {
  const found = holds();
  if (!found) return;
  observer.disconnect();
  done(found);
}
const changes = { subtree: true, childList: true, characterData: true, attributes: true };
observer.observe(document, changes);
look();
";

/// A browser with one window and a profile of its own; ends when dropped.
pub(crate) struct Browser {
    driver: Child,
    at: SocketAddr,
    session: String,
    _profile: TempDir,
}

impl Browser {
    /// Starts one; nothing if there is none here, which is said and must not be where everything
    /// has to be.
    pub(crate) fn start() -> Option<Self> {
        let missing = super::missing(&[("chromium", "--version"), ("chromedriver", "--version")]);
        if !missing.is_empty() {
            assert!(!super::tools_are_required(), "not installed: {missing:?}");
            println!("skipped: {missing:?} cannot be started; install them to run this test");
            return None;
        }
        let (driver, at) = start_driver();
        let profile = tempfile::tempdir().unwrap();
        let names = format!("--host-resolver-rules=MAP {REBOUND} 127.0.0.1");
        let data = format!("--user-data-dir={}", profile.path().display());
        let mut browser = Self { driver, at, session: String::new(), _profile: profile };
        let args = [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--disable-dev-shm-usage",
            "--no-first-run",
            "--no-proxy-server",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            &names,
            &data,
        ];
        let wanted = json!({ "capabilities": { "alwaysMatch": {
            "goog:chromeOptions": { "binary": "/usr/bin/chromium", "args": args },
            "goog:loggingPrefs": { "browser": "ALL", "performance": "ALL" },
            "timeouts": { "script": PATIENCE.as_secs() * 1000 },
        } } });
        let session = browser.call("POST", "/session", &wanted);
        session["sessionId"].as_str().unwrap().clone_into(&mut browser.session);
        Some(browser)
    }

    /// Opens a page, and waits until it has been read.
    pub(crate) fn open(&self, url: &str) {
        self.command("POST", "url", &json!({ "url": url }));
    }

    /// Runs the body of a function in the page; returns what it returns.
    pub(crate) fn run(&self, body: &str) -> Value {
        self.command("POST", "execute/sync", &json!({ "script": body, "args": [] }))
    }

    /// As [`Browser::run`], and waits for the promise that is returned.
    pub(crate) fn run_to_end(&self, body: &str) -> Value {
        let script = format!("const done = arguments[0]; (async () => {{ {body} }})().then(done)");
        self.command("POST", "execute/async", &json!({ "script": script, "args": [] }))
    }

    /// Waits until the body of a function returns something that is true in the page, looking
    /// after each change of it; returns that.
    pub(crate) fn wait_for(&self, condition: &str) -> Value {
        let condition = format!("const holds = () => {{ {condition} }};");
        let script = format!("const done = arguments[0]; {condition} {WAIT}");
        self.command("POST", "execute/async", &json!({ "script": script, "args": [] }))
    }

    /// Presses a key, and lets it go.
    pub(crate) fn press(&self, key: &str) {
        let strokes = json!([
            { "type": "keyDown", "value": key },
            { "type": "keyUp", "value": key },
        ]);
        let keyboard = json!({ "type": "key", "id": "keyboard", "actions": strokes });
        self.command("POST", "actions", &json!({ "actions": [keyboard] }));
    }

    /// What assistive technology is told of each element that is shown: its role and its name.
    pub(crate) fn named(&self, selector: &str) -> Vec<(String, String)> {
        let asked = json!({ "using": "css selector", "value": selector });
        let found = self.command("POST", "elements", &asked);
        let mut all = Vec::new();
        for element in found.as_array().unwrap() {
            let id = element.as_object().unwrap().values().next().unwrap().as_str().unwrap();
            let text = |what: &str| {
                let told = self.command("GET", &format!("element/{id}/{what}"), &Value::Null);
                told.as_str().unwrap().to_owned()
            };
            let arguments = json!({ "script": "return arguments[0].checkVisibility()",
                                    "args": [element] });
            if self.command("POST", "execute/sync", &arguments) == true {
                all.push((text("computedrole"), text("computedlabel")));
            }
        }
        all
    }

    /// Shows pages from now on in a window that is `width` pixels wide, and `scheme`: `light` or
    /// `dark`.
    pub(crate) fn show_as(&self, width: u32, scheme: &str) {
        let size = json!({ "width": width, "height": 800, "deviceScaleFactor": 1,
                           "mobile": false });
        self.devtools("Emulation.setDeviceMetricsOverride", &size);
        let wanted = json!([{ "name": "prefers-color-scheme", "value": scheme }]);
        self.devtools("Emulation.setEmulatedMedia", &json!({ "features": wanted }));
    }

    fn devtools(&self, command: &str, parameters: &Value) -> Value {
        let asked = json!({ "cmd": command, "params": parameters });
        self.command("POST", "goog/cdp/execute", &asked)
    }

    /// What the console of the page has had since this was asked last: faults, and what the
    /// page's policy has refused.
    pub(crate) fn console(&self) -> Vec<String> {
        self.log("browser")
    }

    /// The addresses that were asked for since this was asked last.
    pub(crate) fn requests(&self) -> Vec<String> {
        let events = self.log("performance").into_iter().filter_map(|event| {
            let event: Value = serde_json::from_str(&event).unwrap();
            let message = &event["message"];
            let is_request = message["method"] == "Network.requestWillBeSent";
            is_request.then(|| message["params"]["request"]["url"].as_str().unwrap().to_owned())
        });
        events.collect()
    }

    fn log(&self, kind: &str) -> Vec<String> {
        let entries = self.command("POST", "se/log", &json!({ "type": kind }));
        let entries = entries.as_array().unwrap().iter();
        entries.map(|entry| entry["message"].as_str().unwrap().to_owned()).collect()
    }

    fn command(&self, method: &str, path: &str, body: &Value) -> Value {
        self.call(method, &format!("/session/{}/{path}", self.session), body)
    }

    fn call(&self, method: &str, path: &str, body: &Value) -> Value {
        let (status, told) = exchange(self.at, method, path, body).unwrap();
        assert_eq!(status, 200, "{method} {path} {body}: {told:#}");
        told
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // The driver ends the browser with the session. It may be broken: the test has failed then.
        let session = format!("/session/{}", self.session);
        let _ = exchange(self.at, "DELETE", &session, &Value::Null);
        super::signal::send(&self.driver, "TERM");
        let _ = self.driver.wait();
    }
}

/// Starts the driver on a port of the system's choosing, which it tells.
fn start_driver() -> (Child, SocketAddr) {
    let mut driver = Command::new("chromedriver")
        .arg("--port=0")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(driver.stdout.take().unwrap()).lines();
    let port = lines.by_ref().map_while(Result::ok).find_map(|line| {
        let port = line.split_once("started successfully on port ")?.1;
        port.trim_end_matches('.').parse().ok()
    });
    // Ends with the driver: its output closes then.
    std::thread::spawn(move || lines.for_each(drop));
    (driver, SocketAddr::from(([127, 0, 0, 1], port.unwrap())))
}

/// Sends a command and reads the answer's status and value.
fn exchange(at: SocketAddr, method: &str, path: &str, body: &Value) -> io::Result<(u16, Value)> {
    let mut stream = TcpStream::connect(at)?;
    stream.set_read_timeout(Some(HANG))?;
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let len = body.len();
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nHost: {at}\r\nContent-Type: application/json\r\n\
         Content-Length: {len}\r\nConnection: close\r\n\r\n{body}"
    )?;
    let mut answer = BufReader::new(stream);
    let (mut line, mut len) = (String::new(), 0);
    answer.read_line(&mut line)?;
    let status = line.split(' ').nth(1).and_then(|status| status.parse().ok());
    let status = status.ok_or(ErrorKind::InvalidData)?;
    loop {
        line.clear();
        answer.read_line(&mut line)?;
        let Some((name, value)) = line.split_once(':') else { break };
        if name.eq_ignore_ascii_case("content-length") {
            len = value.trim().parse().map_err(|_| ErrorKind::InvalidData)?;
        }
    }
    let mut body = vec![0; len];
    answer.read_exact(&mut body)?;
    let mut answer: Value = serde_json::from_slice(&body)?;
    Ok((status, answer["value"].take()))
}
