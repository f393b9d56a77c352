//! How much memory a gateway's process may have in use, and how much it has.

use std::path::Path;
use std::{fs, io};

use relay_core::gateway::MemoryLimit;

/// Limits of the first cgroup interface at and above this are none: it rounds "unlimited" down to a
/// page. Source: kernel documentation, "Memory Resource Controller" (cgroup-v1), section 3.
const UNLIMITED: u64 = 1 << 62;

/// The limit of `configured` octets; without it, of what the process is confined to, or the
/// machine has. `None` where neither can be told.
pub(super) fn limit(configured: Option<u64>) -> Option<MemoryLimit> {
    let Some(max) = configured.or_else(|| available(Path::new("/"))) else {
        tracing::warn!("cannot tell how much memory there is: nothing is refused for it");
        return None;
    };
    tracing::info!(max, "memory that may be in use");
    Some(MemoryLimit::new(max, resident))
}

/// Octets that are resident. A file of the kernel's own: to read it takes microseconds.
// Source: proc_pid_statm(5).
fn resident() -> io::Result<u64> {
    let pages = second_field(&fs::read_to_string("/proc/self/statm")?);
    let pages = pages.ok_or_else(|| io::Error::other("/proc/self/statm has no second field"))?;
    Ok(pages.saturating_mul(page_octets()))
}

fn second_field(statm: &str) -> Option<u64> {
    statm.split_whitespace().nth(1)?.parse().ok()
}

#[cfg(unix)]
fn page_octets() -> u64 {
    u64::try_from(rustix::param::page_size()).unwrap_or(u64::MAX)
}

#[cfg(not(unix))]
fn page_octets() -> u64 {
    // There is no `statm` whose pages would be counted.
    0
}

/// The least of what the machine has and what the cgroups of this process leave it. The files are
/// looked for below `root`.
fn available(root: &Path) -> Option<u64> {
    let read = |file: &str| fs::read_to_string(root.join(file)).ok();
    let machine = read("proc/meminfo").as_deref().and_then(total);
    let groups = read("proc/self/cgroup").unwrap_or_default();
    let confined = groups.lines().filter_map(|line| confined_to(root, line)).min();
    machine.into_iter().chain(confined).min()
}

/// Octets of the machine, as `/proc/meminfo` has them in units of 1,024.
fn total(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kibibytes.checked_mul(1024)
}

/// What the group of one line of `/proc/self/cgroup`, or one that it is in, is confined to.
// Source: cgroups(7), "/proc files".
fn confined_to(root: &Path, line: &str) -> Option<u64> {
    let mut parts = line.splitn(3, ':');
    let (hierarchy, controllers, group) = (parts.next()?, parts.next()?, parts.next()?);
    let (mount, file) = match controllers {
        "" if hierarchy == "0" => ("sys/fs/cgroup", "memory.max"),
        list if list.split(',').any(|it| it == "memory") => {
            ("sys/fs/cgroup/memory", "memory.limit_in_bytes")
        }
        _ => return None,
    };
    let mount = root.join(mount);
    // In a container the mount may begin at the group itself, whose path is then not below it.
    let folder = mount.join(group.trim_start_matches('/'));
    let groups = folder.ancestors().take_while(|folder| folder.starts_with(&mount));
    let limits = groups.filter_map(|folder| {
        let written = fs::read_to_string(folder.join(file)).ok()?;
        written.trim().parse().ok().filter(|limit| *limit < UNLIMITED)
    });
    limits.min()
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    /// What is found where `files` are all there is.
    fn found(files: &[(&str, &str)]) -> Option<u64> {
        let root = tempfile::tempdir().expect("a folder");
        for (file, text) in files {
            let file = root.path().join(file);
            fs::create_dir_all(file.parent().expect("a folder above")).expect("a folder");
            fs::write(file, text).expect("a file");
        }
        available(root.path())
    }

    const MACHINE: (&str, &str) =
        ("proc/meminfo", "MemTotal:        8388608 kB\nMemFree:         1 kB\n");

    #[test]
    fn the_least_of_machine_and_groups_is_what_there_is() {
        let group = ("proc/self/cgroup", "0::/system.slice/relay.service\n");
        let own = "sys/fs/cgroup/system.slice/relay.service/memory.max";
        let above = "sys/fs/cgroup/system.slice/memory.max";
        assert_eq!(found(&[MACHINE]), Some(8 * GIB));
        assert_eq!(found(&[MACHINE, group, (own, "max\n")]), Some(8 * GIB));
        assert_eq!(found(&[MACHINE, group, (own, "1073741824\n")]), Some(GIB));
        let both = [MACHINE, group, (own, "max\n"), (above, "2147483648\n")];
        assert_eq!(found(&both), Some(2 * GIB));
        assert_eq!(found(&[MACHINE, group, (own, "17179869184\n")]), Some(8 * GIB));
        assert_eq!(found(&[group, (own, "1073741824\n")]), Some(GIB));
        assert_eq!(found(&[]), None);
    }

    #[test]
    fn a_container_finds_its_own_limit_where_its_mount_begins() {
        let group = ("proc/self/cgroup", "0::/docker/0123\n");
        let own = ("sys/fs/cgroup/memory.max", "1073741824\n");
        assert_eq!(found(&[MACHINE, group, own]), Some(GIB));
        let group = ("proc/self/cgroup", "0::/../other\n");
        assert_eq!(found(&[MACHINE, group, own]), Some(GIB));
    }

    #[test]
    fn the_first_interface_is_read_too_and_its_word_for_no_limit() {
        let group = ("proc/self/cgroup", "9:cpu,memory:/relay\n1:name=systemd:/relay\n");
        let file = "sys/fs/cgroup/memory/relay/memory.limit_in_bytes";
        assert_eq!(found(&[MACHINE, group, (file, "1073741824\n")]), Some(GIB));
        assert_eq!(found(&[MACHINE, group, (file, "9223372036854771712\n")]), Some(8 * GIB));
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn this_process_has_some_memory_in_use_and_may_have_more() {
        let used = resident().expect("the kernel's file");
        assert!(used > 1 << 20, "{used}");
        assert!(available(Path::new("/")).expect("a limit") > used);
    }
}
