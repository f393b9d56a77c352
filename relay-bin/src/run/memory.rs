//! How much memory a gateway's process may have in use, and how much it has: resident, with the
//! kernel's own for it where a cgroup counts that, and the kernel's for TCP as a whole.

use std::path::{Path, PathBuf};
use std::{fs, io};

use relay_core::gateway::MemoryLimit;

/// Limits of the first cgroup interface at and above this are none: it rounds "unlimited" down to a
/// page. Source: kernel documentation, "Memory Resource Controller" (cgroup-v1), section 3.
const UNLIMITED: u64 = 1 << 62;

/// The limit of `configured` octets; without it, of what the process is confined to, or the
/// machine has. Besides, that of the cgroup where it is the least, and of TCP where the kernel
/// tells it. `None` where nothing can be told.
pub(super) fn limit(configured: Option<u64>) -> Option<MemoryLimit> {
    let limit = limit_below(Path::new("/"), configured);
    let Some(limit) = limit else {
        tracing::warn!("cannot tell how much memory there is: nothing is refused for it");
        return None;
    };
    for (name, max) in limit.kinds() {
        tracing::info!(name, max, "memory that may be in use");
    }
    Some(limit)
}

/// As [`limit`]; all but what is resident is looked for below `root`.
fn limit_below(root: &Path, configured: Option<u64>) -> Option<MemoryLimit> {
    let group = confined(root);
    let least = group.as_ref().map(|group| group.max);
    let max = configured.or_else(|| machine(root).into_iter().chain(least).min())?;
    let mut limit = MemoryLimit::new("resident", max, resident);
    // Whoever sets a lower figure has another in mind than the group's, which others may be in too.
    if let Some(group) = group.filter(|group| group.max <= max) {
        limit = limit.and("cgroup", group.max, move || group.used());
    }
    if let Some(max) = tcp_max(root) {
        let sockets = root.join("proc/net/sockstat");
        limit = limit.and("tcp", max, move || tcp_used(&sockets));
    }
    Some(limit)
}

/// Octets that all TCP sockets together may have in the kernel. Beyond it the kernel drops what
/// arrives, for links as well. `None` in a network namespace of its own, as most containers have,
/// where the kernel does not show it.
// Source: tcp(7), "tcp_mem"; in pages.
fn tcp_max(root: &Path) -> Option<u64> {
    let written = fs::read_to_string(root.join("proc/sys/net/ipv4/tcp_mem")).ok()?;
    let pages: u64 = written.split_whitespace().nth(2)?.parse().ok()?;
    pages.checked_mul(page_octets()).filter(|max| *max > 0)
}

/// Octets that they have.
fn tcp_used(sockets: &Path) -> io::Result<u64> {
    let pages = tcp_pages(&fs::read_to_string(sockets)?);
    let pages =
        pages.ok_or_else(|| io::Error::other("sockstat does not tell the memory of TCP"))?;
    Ok(pages.saturating_mul(page_octets()))
}

/// The figure behind `mem` in the line of TCP.
fn tcp_pages(sockstat: &str) -> Option<u64> {
    let line = sockstat.lines().find_map(|line| line.strip_prefix("TCP:"))?;
    line.split_whitespace().skip_while(|word| *word != "mem").nth(1)?.parse().ok()
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

/// Octets that the machine has.
fn machine(root: &Path) -> Option<u64> {
    fs::read_to_string(root.join("proc/meminfo")).ok().as_deref().and_then(total)
}

/// The cgroup whose limit is the least of those that this process is in.
fn confined(root: &Path) -> Option<Group> {
    let groups = fs::read_to_string(root.join("proc/self/cgroup")).unwrap_or_default();
    groups.lines().filter_map(|line| confined_to(root, line)).min_by_key(|group| group.max)
}

/// Octets of the machine, as `/proc/meminfo` has them in units of 1,024.
fn total(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kibibytes.checked_mul(1024)
}

/// How one interface of cgroups calls what is read of a group.
#[derive(Debug)]
struct Interface {
    mount: &'static str,
    max: &'static str,
    used: &'static str,
    /// Of `memory.stat`, with the groups below.
    inactive: &'static str,
}

// Source: kernel documentation, "Memory Resource Controller" (cgroup-v1), section 5.2.
static FIRST: Interface = Interface {
    mount: "sys/fs/cgroup/memory",
    max: "memory.limit_in_bytes",
    used: "memory.usage_in_bytes",
    inactive: "total_inactive_file",
};

// Source: kernel documentation, "Control Group v2", "Memory Interface Files".
static SECOND: Interface = Interface {
    mount: "sys/fs/cgroup",
    max: "memory.max",
    used: "memory.current",
    inactive: "inactive_file",
};

/// A cgroup with a limit.
#[derive(Debug)]
struct Group {
    interface: &'static Interface,
    folder: PathBuf,
    max: u64,
}

impl Group {
    /// `None` if it has no limit.
    fn at(folder: &Path, interface: &'static Interface) -> Option<Self> {
        let written = fs::read_to_string(folder.join(interface.max)).ok()?;
        let max = written.trim().parse().ok().filter(|limit| *limit < UNLIMITED)?;
        Some(Self { interface, folder: folder.to_owned(), max })
    }

    /// Octets in use. In the second interface the kernel's buffers of sockets are among them. What
    /// is left out are contents of files that nobody has used lately: those the kernel takes back
    /// before it ends anybody.
    fn used(&self) -> io::Result<u64> {
        let read = |file: &str| fs::read_to_string(self.folder.join(file));
        let all: u64 = read(self.interface.used)?.trim().parse().map_err(io::Error::other)?;
        let inactive = figure(&read("memory.stat")?, self.interface.inactive);
        let inactive = inactive
            .ok_or_else(|| io::Error::other("memory.stat does not tell what is inactive"))?;
        Ok(all.saturating_sub(inactive))
    }
}

/// The figure behind `name`, of lines that have one each.
fn figure(stat: &str, name: &str) -> Option<u64> {
    let mut lines = stat.lines().filter_map(|line| line.split_once(' '));
    lines.find(|(found, _)| *found == name)?.1.trim().parse().ok()
}

/// The group of one line of `/proc/self/cgroup`, or one that it is in: the one with the least
/// limit, and of those that have the same the outermost, which is full no later.
// Source: cgroups(7), "/proc files".
fn confined_to(root: &Path, line: &str) -> Option<Group> {
    let mut parts = line.splitn(3, ':');
    let (hierarchy, controllers, group) = (parts.next()?, parts.next()?, parts.next()?);
    let interface = match controllers {
        "" if hierarchy == "0" => &SECOND,
        list if list.split(',').any(|it| it == "memory") => &FIRST,
        _ => return None,
    };
    let mount = root.join(interface.mount);
    // In a container the mount may begin at the group itself, whose path is then not below it.
    let folder = mount.join(group.trim_start_matches('/'));
    let groups = folder.ancestors().take_while(|folder| folder.starts_with(&mount));
    let groups = groups.filter_map(|folder| Group::at(folder, interface));
    groups.reduce(|inner, outer| if outer.max <= inner.max { outer } else { inner })
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    /// A folder in which `files` are all there is.
    fn root_of(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().expect("a folder");
        for (file, text) in files {
            let file = root.path().join(file);
            fs::create_dir_all(file.parent().expect("a folder above")).expect("a folder");
            fs::write(file, text).expect("a file");
        }
        root
    }

    /// The memory that is found where `files` are all there is.
    fn found(files: &[(&str, &str)]) -> Option<u64> {
        let limit = limit_below(root_of(files).path(), None)?;
        let (name, max) = limit.kinds().next()?;
        assert_eq!(name, "resident");
        Some(max)
    }

    /// The kinds of memory that are found there, where `configured` octets may be in use.
    fn kinds(files: &[(&str, &str)], configured: Option<u64>) -> Vec<(&'static str, u64)> {
        let limit = limit_below(root_of(files).path(), configured);
        limit.iter().flat_map(MemoryLimit::kinds).collect()
    }

    /// What is in use of the group that confines the process there.
    fn used(files: &[(&str, &str)]) -> io::Result<u64> {
        confined(root_of(files).path()).expect("a group").used()
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
    fn the_group_is_read_too_where_its_limit_is_the_least() {
        let group = ("proc/self/cgroup", "0::/relay\n");
        let limit = ("sys/fs/cgroup/relay/memory.max", "1073741824\n");
        let (resident, cgroup) = ("resident", "cgroup");
        let files = [MACHINE, group, limit];
        assert_eq!(kinds(&files, None), [(resident, GIB), (cgroup, GIB)]);
        assert_eq!(kinds(&files, Some(2 * GIB)), [(resident, 2 * GIB), (cgroup, GIB)]);
        assert_eq!(kinds(&files, Some(GIB)), [(resident, GIB), (cgroup, GIB)]);
        assert_eq!(kinds(&files, Some(GIB - 1)), [(resident, GIB - 1)]);
        let wide = ("sys/fs/cgroup/relay/memory.max", "8589934593\n");
        assert_eq!(kinds(&[MACHINE, group, wide], None), [(resident, 8 * GIB)]);
        assert_eq!(kinds(&[MACHINE, group], None), [(resident, 8 * GIB)]);
        assert_eq!(kinds(&[], None), []);
    }

    #[test]
    fn of_a_group_all_counts_but_what_is_inactive_of_files() {
        let group = ("proc/self/cgroup", "0::/relay\n");
        let limit = ("sys/fs/cgroup/relay/memory.max", "1000\n");
        let current = ("sys/fs/cgroup/relay/memory.current", "900\n");
        let stat = |text| ("sys/fs/cgroup/relay/memory.stat", text);
        let usual = stat("anon 100\nsock 500\ninactive_file 300\nactive_file 7\n");
        assert_eq!(used(&[group, limit, current, usual]).expect("figures"), 600);
        let more = stat("inactive_file 901\n");
        assert_eq!(used(&[group, limit, current, more]).expect("figures"), 0);
        let other = stat("total_inactive_file 300\n");
        assert!(used(&[group, limit, current, other]).is_err());
        assert!(used(&[group, limit, current]).is_err());
        assert!(used(&[group, limit, usual]).is_err());
        let word = ("sys/fs/cgroup/relay/memory.current", "max\n");
        assert!(used(&[group, limit, word, usual]).is_err());
    }

    #[test]
    fn a_group_of_the_first_interface_counts_with_those_below_it() {
        let files = [
            ("proc/self/cgroup", "4:memory:/relay\n"),
            ("sys/fs/cgroup/memory/relay/memory.limit_in_bytes", "1000\n"),
            ("sys/fs/cgroup/memory/relay/memory.usage_in_bytes", "900\n"),
            (
                "sys/fs/cgroup/memory/relay/memory.stat",
                "inactive_file 1\ntotal_inactive_file 200\n",
            ),
        ];
        assert_eq!(used(&files).expect("figures"), 700);
        assert_eq!(kinds(&files, None), [("resident", 1000), ("cgroup", 1000)]);
    }

    #[test]
    fn of_groups_with_one_limit_the_one_that_holds_the_others_is_read() {
        let files = [
            ("proc/self/cgroup", "0::/all/relay\n"),
            ("sys/fs/cgroup/all/relay/memory.max", "1000\n"),
            ("sys/fs/cgroup/all/relay/memory.current", "1\n"),
            ("sys/fs/cgroup/all/relay/memory.stat", "inactive_file 0\n"),
            ("sys/fs/cgroup/all/memory.max", "1000\n"),
            ("sys/fs/cgroup/all/memory.current", "900\n"),
            ("sys/fs/cgroup/all/memory.stat", "inactive_file 0\n"),
        ];
        assert_eq!(used(&files).expect("figures"), 900);
    }

    #[test]
    fn the_kernels_memory_for_tcp_is_limited_by_the_third_figure() {
        let figures = |text| ("proc/sys/net/ipv4/tcp_mem", text);
        let tcp = |text| kinds(&[MACHINE, figures(text)], None).get(1).copied();
        let max = 575_802 * page_octets();
        assert_eq!(tcp("287901\t383868\t575802\n"), Some(("tcp", max)));
        assert_eq!(tcp("287901\t383868\n"), None);
        assert_eq!(tcp("1 2 max\n"), None);
        assert_eq!(tcp("0 0 0\n"), None, "no kernel keeps nothing at all");
        assert_eq!(kinds(&[figures("1 2 3\n")], Some(9)).len(), 2);
    }

    #[test]
    fn of_tcp_the_pages_in_use_are_read() {
        let sockets = "sockets: used 9\nTCP: inuse 5 orphan 1 tw 0 alloc 7 mem 30\n\
                       UDP: inuse 2 mem 4\n";
        assert_eq!(tcp_pages(sockets), Some(30));
        assert_eq!(tcp_pages("TCP: inuse 5 orphan 1 tw 0 alloc 7\nUDP: inuse 2 mem 4\n"), None);
        assert_eq!(tcp_pages("UDP: inuse 2 mem 4\n"), None);
        let root = root_of(&[("sockstat", sockets)]);
        let used = tcp_used(&root.path().join("sockstat")).expect("figures");
        assert_eq!(used, 30 * page_octets());
        assert!(tcp_used(&root.path().join("none")).is_err());
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn this_process_has_some_memory_in_use_and_may_have_more() {
        let used = resident().expect("the kernel's file");
        assert!(used > 1 << 20, "{used}");
        let limit = limit_below(Path::new("/"), None).expect("a limit");
        assert!(limit.kinds().next().expect("a first one").1 > used);
        if let Some(max) = tcp_max(Path::new("/")) {
            let used = tcp_used(Path::new("/proc/net/sockstat")).expect("the kernel's file");
            assert!(used < max, "{used} of {max}");
        }
    }
}
