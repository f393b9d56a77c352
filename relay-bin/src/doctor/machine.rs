//! The machine: the kernel's figures that limit a role, and the system that it is.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::Read as _;
use std::path::Path;

use super::PROOF;
use super::bundle::Bundle;
use super::finding::{Finding, Findings};
use super::veil::Veil;

/// Octets that are read of one file of the kernel's, at most.
const FILE_OCTETS_MAX: u64 = 64 << 10;

/// Free percent of a disk from which on down it looks full.
const FREE_PERCENT_MIN: u64 = 5;

/// What is read. What a machine does not have is told so.
const FILES: [&str; 20] = [
    "/etc/os-release",
    "/proc/version",
    "/proc/uptime",
    "/proc/loadavg",
    "/proc/meminfo",
    "/proc/self/limits",
    "/proc/self/cgroup",
    "/proc/net/sockstat",
    "/proc/sys/fs/file-nr",
    "/proc/sys/fs/nr_open",
    "/proc/sys/net/core/somaxconn",
    "/proc/sys/net/core/rmem_max",
    "/proc/sys/net/core/wmem_max",
    "/proc/sys/net/ipv4/tcp_mem",
    "/proc/sys/net/ipv4/tcp_rmem",
    "/proc/sys/net/ipv4/tcp_wmem",
    "/proc/sys/net/ipv4/tcp_max_syn_backlog",
    "/proc/sys/net/ipv4/ip_local_port_range",
    "/proc/sys/net/ipv4/tcp_congestion_control",
    "/proc/sys/vm/overcommit_memory",
];

/// Figures of a cgroup of the second interface.
// Source: kernel documentation, "Control Group v2", "Memory Interface Files", "CPU", "PID".
const OF_GROUP: [&str; 7] = [
    "memory.max",
    "memory.high",
    "memory.current",
    "memory.events",
    "cpu.max",
    "pids.max",
    "pids.current",
];

/// Adds all that, and how much room there is on the disk of `folder`.
pub(super) fn add(folder: &Path, veil: &Veil, bundle: &mut Bundle, findings: &mut Findings) {
    let mut text = String::new();
    for file in FILES {
        push_file(&mut text, Path::new(file));
    }
    push_groups(&mut text, Path::new("/proc/self/cgroup"));
    push_disk(&mut text, folder, findings);
    let what = "system, memory, cgroup, limits of the kernel and of this command";
    bundle.add(veil, "machine.txt", what, &text);
}

/// What a file of the kernel's says, below its name.
pub(super) fn push_file(text: &mut String, file: &Path) {
    let mut said = Vec::new();
    let read = File::open(file).and_then(|it| it.take(FILE_OCTETS_MAX).read_to_end(&mut said));
    let said = match read {
        Ok(_) => String::from_utf8_lossy(&said).into_owned(),
        Err(error) => format!("cannot be read: {error}"),
    };
    push(text, &format!("-- {} --\n{}\n", file.display(), said.trim_end()));
}

/// The figures of the cgroups that `/proc/PID/cgroup` names, and of those around them.
// Source: cgroups(7), "/proc files".
pub(super) fn push_groups(text: &mut String, of_process: &Path) {
    let mount = Path::new("/sys/fs/cgroup");
    let groups = fs::read_to_string(of_process).unwrap_or_default();
    let Some(group) = groups.lines().find_map(|line| line.strip_prefix("0::/")) else { return };
    let folder = mount.join(group);
    for folder in folder.ancestors().take_while(|it| it.starts_with(mount)) {
        for file in OF_GROUP.iter().map(|name| folder.join(name)).filter(|it| it.exists()) {
            push_file(text, &file);
        }
    }
}

#[cfg(unix)]
fn push_disk(text: &mut String, folder: &Path, findings: &mut Findings) {
    let Ok(disk) = rustix::fs::statvfs(folder) else { return };
    let [free, whole] =
        [disk.f_bavail, disk.f_blocks].map(|blocks| blocks.saturating_mul(disk.f_frsize));
    let shown = folder.display();
    push(text, &format!("-- disk of {shown} --\n{free} of {whole} octets are free\n"));
    if is_full(free, whole) {
        findings.add(Finding::new(
            format!("the disk of {shown} is nearly full: {free} of {whole} octets are free"),
            "make room: what the site has issued and blocked is written there, and sums of egress",
        ));
    }
}

#[cfg(not(unix))]
fn push_disk(_text: &mut String, _folder: &Path, _findings: &mut Findings) {}

#[cfg_attr(not(unix), allow(dead_code, reason = "no disk is asked there"))]
fn is_full(free: u64, whole: u64) -> bool {
    u128::from(free) * 100 < u128::from(whole) * u128::from(FREE_PERCENT_MIN)
}

fn push(text: &mut String, part: &str) {
    text.write_str(part).expect(PROOF);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_looks_full_below_five_percent_and_not_at_them() {
        assert_eq!(
            [(4, 100), (5, 100), (0, 0)].map(|it| is_full(it.0, it.1)),
            [true, false, false]
        );
        assert!(!is_full(u64::MAX, u64::MAX));
    }

    #[test]
    fn of_a_file_that_is_long_the_beginning_is_told_and_of_one_that_is_not_there_why() {
        let home = tempfile::tempdir().unwrap();
        let file = home.path().join("f");
        for (len, told) in
            [(FILE_OCTETS_MAX, FILE_OCTETS_MAX), (FILE_OCTETS_MAX + 1, FILE_OCTETS_MAX)]
        {
            fs::write(&file, "x".repeat(usize::try_from(len).unwrap())).unwrap();
            let mut text = String::new();
            push_file(&mut text, &file);
            assert_eq!(text.matches('x').count() as u64, told);
        }
        let mut text = String::new();
        push_file(&mut text, &home.path().join("absent"));
        assert!(text.contains("cannot be read: No such file"), "{text}");
    }
}
