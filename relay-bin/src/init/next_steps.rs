//! What `relay init` says when it is done.

use std::fmt::Write as _;
use std::path::Path;

use super::plan::{CONNECTION_POINT_HOME, Plan, gateway_home};
use crate::pki::LEAF_LIFE;

/// The clients' URL and the commands that come next, ready to be pasted into a shell.
pub(super) fn text(dir: &Path, plan: &Plan) -> String {
    let mut text = String::new();
    build(&mut text, dir, plan).expect("writing to a String does not fail");
    text
}

fn build(text: &mut String, dir: &Path, plan: &Plan) -> std::fmt::Result {
    let program = std::env::args_os().next().unwrap_or_else(|| "relay".into());
    let program = quoted(Path::new(&program));
    let ca = dir.join("site-ca").join("site-ca.pem");

    writeln!(text, "Wrote the site of {} to {}.\n", plan.service(), dir.display())?;
    writeln!(text, "Clients reach endpoint `{}` at", plan.endpoint_name())?;
    let mut urls: Vec<String> =
        plan.instances().map(|instance| plan.client_url(instance)).collect();
    urls.dedup();
    for url in &urls {
        writeln!(text, "  {url}")?;
    }

    if plan.is_local() {
        writeln!(text, "\nNext, each role in a terminal of its own:")?;
    } else {
        writeln!(
            text,
            "\nCopy each gateway-N folder to the machine of that instance and \
             {CONNECTION_POINT_HOME} to one\ninside the site; site-ca stays here. \
             Next, each on its machine:"
        )?;
    }
    let point = dir.join(CONNECTION_POINT_HOME).join("connection-point.toml");
    let point = quoted(&point);
    if !plan.is_anonymous() {
        // Before the roles: its key is published from the start then.
        writeln!(text, "  {program} token new --config {point} --out bulk.token")?;
    }
    for instance in plan.instances() {
        let config = dir.join(gateway_home(instance)).join("gateway.toml");
        writeln!(text, "  {program} gateway --config {}", quoted(&config))?;
    }
    writeln!(text, "  {program} connection-point --config {point}")?;

    let ca = quoted(&ca);
    if plan.is_anonymous() {
        writeln!(text, "\nThen ask for something:")?;
        for url in &urls {
            writeln!(text, "  curl --cacert {ca} '{url}{}'", plan.sample_path())?;
        }
        writeln!(text, "\nThe endpoint lets anybody in: for trials only.")?;
    } else {
        writeln!(text, "\nThen register a client, and ask for something as that client:")?;
        let Some(url) = urls.first() else { return Ok(()) };
        let register = plan.register_url();
        writeln!(
            text,
            "  {program} client register {register} \\\n      --ca {ca} --token-file bulk.token \
             --folder me"
        )?;
        let asked = format!("'{url}{}'", plan.sample_path());
        writeln!(text, "  {program} client request GET {asked} \\\n      --ca {ca} --folder me")?;
        writeln!(text)?;
    }
    write!(text, "The certificates expire in {} days.", LEAF_LIFE.whole_days())
}

/// `path` as one word of a shell.
fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+=:@%,".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        return text;
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_a_shell_would_take_apart_is_quoted() {
        for (path, word) in [
            ("site/gateway-1", "site/gateway-1"),
            ("my site", "'my site'"),
            ("it's", r"'it'\''s'"),
            ("$HOME", "'$HOME'"),
            ("", "''"),
        ] {
            assert_eq!(quoted(Path::new(path)), word);
        }
    }
}
