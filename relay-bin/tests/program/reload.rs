//! A connection point that is asked to read its file again, as a running process.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::support::role::Role;
use crate::support::site::Site;

const FILE: &str = "site/connection-point/connection-point.toml";

/// Another endpoint, as text for the file.
fn endpoint(name: &str, role_id: u32) -> String {
    format!(
        "\n[[endpoint]]\nname = \"{name}\"\nkind = \"management-point\"\nrole_id = {role_id}\n\
         unsafe_allow_anonymous = true\nbackend = \"http://127.0.0.1:9\"\n"
    )
}

fn edit(home: &Path, file: &str, change: impl FnOnce(String) -> String) {
    let text = fs::read_to_string(home.join(file)).unwrap();
    fs::write(home.join(file), change(text)).unwrap();
}

/// Runs `relay token` to its end, and returns what it prints.
fn token(home: &Path, args: &[&str]) -> Value {
    let mut relay = Command::new(env!("CARGO_BIN_EXE_relay"));
    let args = [&["token"], args, &["--json", "--config", FILE]].concat();
    let done = relay.args(args).current_dir(home).output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    serde_json::from_slice(&done.stdout).unwrap()
}

#[test]
fn a_list_that_nobody_ever_writes_holds_up_neither_a_block_nor_the_next_reload() {
    let home = tempfile::tempdir().unwrap();
    let site = Site::init_with(home.path(), &["--backend", "http://127.0.0.1:9"]);
    let mut gateway = site.start_gateway(1);
    let [_, links] = gateway.addresses();
    site.dial(&[links]);
    let folder = home.path().join("site/connection-point");
    for (from, to) in [("site-ca.pem", "clients-ca.pem"), ("site-ca.crl", "clients-ca.crl")] {
        fs::copy(folder.join(from), folder.join(to)).unwrap();
    }
    edit(home.path(), FILE, |text| {
        let clients = "\n[clients]\nroots = \"clients-ca.pem\"\n\
                       revocation_lists = [\"clients-ca.crl\"]\n";
        text.replace("unsafe_allow_anonymous = true\n", "") + clients
    });
    let guid = token(home.path(), &["new"])["guid"].as_str().unwrap().to_owned();
    let mut point = site.start_connection_point_in("connection-point");
    gateway.wait_for_log("settings applied", 1);

    let (list, aside) = (folder.join("clients-ca.crl"), folder.join("aside"));
    fs::rename(&list, &aside).unwrap();
    assert!(Command::new("mkfifo").arg(&list).status().unwrap().success());
    point.signal("HUP");
    let told = point.wait_for_log("nothing applied; what was before still holds", 1);
    assert!(told.contains("it is not a regular file"), "{told}");
    token(home.path(), &["block", &guid]);
    // While nobody writes the list: it is put back after both have happened.
    point.wait_for_log("tokens: blocks and signing keys published", 1);
    gateway.wait_for_log("settings applied", 2);

    fs::rename(&aside, &list).unwrap();
    point.signal("HUP");
    point.wait_for_log("endpoints and gateways applied", 1);
}

/// Writes over the file in place, as `cat >` and some editors do.
fn write_over(file: &Path, text: &str) {
    fs::write(file, text).unwrap();
}

/// Puts another file in its place, as most editors and `sed -i` do.
fn rename_over(file: &Path, text: &str) {
    let beside = file.with_extension("swp");
    fs::write(&beside, text).unwrap();
    fs::rename(beside, file).unwrap();
}

/// Has the link that the file is found by lead to another folder, as where Kubernetes mounts it.
fn swap_link(file: &Path, text: &str) {
    let mount = file.parent().unwrap();
    let number = fs::read_dir(mount).unwrap().count();
    let folder = mount.join(format!("..{number}"));
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join(file.file_name().unwrap()), text).unwrap();
    lead_to(mount, &folder);
}

/// Has the link of `mount` lead to this folder.
fn lead_to(mount: &Path, folder: &Path) {
    symlink(folder, mount.join("..new")).unwrap();
    fs::rename(mount.join("..new"), mount.join("..data")).unwrap();
}

/// Has the file be found by a link to a folder by a link.
fn mount(file: &Path) {
    let (mount, name) = (file.parent().unwrap(), file.file_name().unwrap());
    let folder = mount.join("..first");
    fs::create_dir(&folder).unwrap();
    fs::rename(file, folder.join(name)).unwrap();
    symlink(&folder, mount.join("..data")).unwrap();
    symlink(Path::new("..data").join(name), file).unwrap();
}

#[test]
fn a_file_that_changes_is_read_again_unasked_however_it_is_written() {
    for (write, is_mounted) in
        [(write_over as fn(&Path, &str), false), (rename_over, false), (swap_link, true)]
    {
        let home = tempfile::tempdir().unwrap();
        let site = Site::init_with(home.path(), &["--backend", "http://127.0.0.1:9"]);
        let mut gateway = site.start_gateway(1);
        let [_, links] = gateway.addresses();
        site.dial(&[links]);
        let file = home.path().join(FILE);
        if is_mounted {
            mount(&file);
        }
        let mut point = site.start_connection_point_in("connection-point");
        gateway.wait_for_log("settings applied", 1);
        let good = fs::read_to_string(&file).unwrap();

        write(&file, &(good.clone() + "[[endpoint]]\nnme = 1\n"));
        let told = point.wait_for_log("unknown key `nme`", 1);
        assert!(told.contains("nothing applied; what was before still holds"), "{told}");
        write(&file, &(good + &endpoint("second", 2)));
        let applied = gateway.wait_for_log("settings applied", 2);
        assert!(applied.contains("\"endpoints\":3"), "nothing of the broken file: {applied}");
        let told = point.wait_for_log("endpoints and gateways applied", 1);
        assert!(told.contains("\"changed\":\"added endpoint.second\""), "{told}");
        assert_eq!(point.stop().0, Some(0));
    }
}

#[test]
fn a_link_that_leads_back_to_the_release_before_brings_back_what_that_publishes() {
    let home = tempfile::tempdir().unwrap();
    let site = Site::init_with(home.path(), &["--backend", "http://127.0.0.1:9"]);
    let mut gateway = site.start_gateway(1);
    let [_, links] = gateway.addresses();
    site.dial(&[links]);
    let file = home.path().join(FILE);
    mount(&file);
    let mut point = site.start_connection_point_in("connection-point");
    gateway.wait_for_log("settings applied", 1);

    swap_link(&file, &(fs::read_to_string(&file).unwrap() + &endpoint("second", 2)));
    let applied = gateway.wait_for_log("settings applied", 2);
    assert!(applied.contains("\"endpoints\":3"), "{applied}");
    point.wait_for_log("endpoints and gateways applied", 1);
    let mount = file.parent().unwrap();
    lead_to(mount, &mount.join("..first"));
    let applied = gateway.wait_for_log("settings applied", 3);
    assert!(applied.contains("\"endpoints\":2"), "{applied}");
    let told = point.wait_for_log("endpoints and gateways applied", 2);
    assert!(told.contains("\"changed\":\"removed endpoint.second\""), "{told}");
    assert_eq!(point.stop().0, Some(0));
}

#[test]
fn a_file_read_again_is_published_and_one_that_is_broken_changes_nothing() {
    let home = tempfile::tempdir().unwrap();
    let home = home.path();
    let init = Command::new(env!("CARGO_BIN_EXE_relay"))
        .args(["init", "site", "--backend", "http://127.0.0.1:9"])
        .current_dir(home)
        .output()
        .unwrap();
    assert!(init.status.success(), "{}", String::from_utf8_lossy(&init.stderr));
    edit(home, "site/gateway-1/gateway.toml", |text| {
        text.replace("127.0.0.1:8443", "127.0.0.1:0")
            .replace("127.0.0.1:10140", "127.0.0.1:0")
            .replace("127.0.0.1:10181", "127.0.0.1:0")
    });
    let mut gateway = Role::start(home, &["gateway", "-c", "site/gateway-1/gateway.toml"]);
    let [_, links] = gateway.addresses();
    edit(home, FILE, |text| {
        let text = text.replace("= 10140", &format!("= {}", links.port()));
        text.replace("127.0.0.1:10180", "127.0.0.1:0")
    });
    let mut connection_point = Role::start(home, &["connection-point", "-c", FILE]);
    let applied = gateway.wait_for_log("settings applied", 1);
    assert!(applied.contains("\"endpoints\":2"), "{applied}");

    edit(home, FILE, |text| text + &endpoint("second", 2));
    connection_point.signal("HUP");
    let applied = gateway.wait_for_log("settings applied", 2);
    assert!(applied.contains("\"endpoints\":3"), "{applied}");
    let told = connection_point.wait_for_log("endpoints and gateways applied", 1);
    assert!(told.contains("\"endpoints\":3") && told.contains("\"instances\":1"), "{told}");

    let good = fs::read_to_string(home.join(FILE)).unwrap();
    let older = good.replace("# version = 1\n", "version = 1\n") + &endpoint("third", 3);
    for (broken, why) in [
        (good.clone() + "[[endpoint]]\nnme = 1\n", "unknown key `nme`"),
        (good.replace("connection-point-1", "another"), "cannot change while it runs"),
        (
            good.replace("[token_service]", "[token_service]\nlisten = \"127.0.0.1:0\""),
            "of `[token_",
        ),
        (older, "so it must be higher"),
    ] {
        fs::write(home.join(FILE), broken).unwrap();
        connection_point.signal("HUP");
        let told = connection_point.wait_for_log(why, 1);
        assert!(told.contains("nothing applied; what was before still holds"), "{told}");
    }

    fs::write(home.join(FILE), good + &endpoint("third", 3) + &endpoint("fourth", 4)).unwrap();
    connection_point.signal("HUP");
    let applied = gateway.wait_for_log("settings applied", 3);
    assert!(applied.contains("\"endpoints\":5"), "nothing of the broken files: {applied}");
    for (role, which) in [(connection_point, "connection point"), (gateway, "gateway")] {
        let (status, printed) = role.stop();
        assert_eq!(status, Some(0), "{which}: {printed:#?}");
    }
}
