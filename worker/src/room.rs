//! What this process may use of its machine.

use std::fs;
use std::path::{Path, PathBuf};

/// Cores and memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// Cores: affinity and the quota of the control group heeded.
    pub cores: u32,
    /// Bytes that the control groups allow; `None` where they set no limit.
    pub memory: Option<u64>,
}

/// Bytes that a worker takes beside its slots: itself, and files of data in memory.
const BESIDE: u64 = 64 << 20;

impl Room {
    /// What there is.
    pub fn of_this_process() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        Self {
            cores: u32::try_from(cores).unwrap_or(u32::MAX),
            memory: memory_limit(&groups, Path::new("/sys/fs/cgroup")),
        }
    }

    /// Bytes of each of so many slots, if memory is limited: one that takes more then ends alone,
    /// before the kernel chooses whom to end.
    pub fn memory_of_a_slot(&self, slots: u32) -> Option<u64> {
        let limit = self.memory?;
        // Half of a tiny room.
        let beside = BESIDE.min(limit / 2);
        Some((limit - beside) / u64::from(slots.max(1)))
    }
}

/// The smallest limit of the control groups that a process is in. `groups` is its
/// `/proc/self/cgroup`, `mount` where control groups are mounted: of version 1, of version 2, or
/// both beside each other. In a container the path may be one of the host that is not there; its
/// own group then is the mount's root.
fn memory_limit(groups: &str, mount: &Path) -> Option<u64> {
    let mut smallest: Option<u64> = None;
    for line in groups.lines() {
        let mut fields = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (fields.next(), fields.next()) else {
            continue;
        };
        let (roots, file): (&[PathBuf], _) = if controllers.is_empty() {
            (&[mount.to_owned(), mount.join("unified")], "memory.max")
        } else if controllers.split(',').any(|name| name == "memory") {
            (&[mount.join("memory")], "memory.limit_in_bytes")
        } else {
            continue;
        };
        for root in roots {
            let group = root.join(path.trim_start_matches('/'));
            let within = group.ancestors().take_while(|at| at.starts_with(root));
            let limits = within.filter_map(|at| fs::read_to_string(at.join(file)).ok());
            // "max", or of version 1 a number beyond any memory, is no limit.
            let limits = limits.filter_map(|text| text.trim().parse::<u64>().ok());
            smallest = limits.chain(smallest).min();
        }
    }
    smallest.filter(|bytes| *bytes < 1 << 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(folder: &Path, path: &str, text: &str) {
        let file = folder.join(path);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, text).unwrap();
    }

    #[test]
    fn the_smallest_limit_on_the_way_up_counts() {
        let mount = tempfile::tempdir().unwrap();
        let mount = mount.path();
        write(mount, "pod/memory.max", "1073741824\n");
        write(mount, "pod/container/memory.max", "max\n");
        assert_eq!(memory_limit("0::/pod/container\n", mount), Some(1 << 30));
        write(mount, "pod/container/memory.max", "536870912\n");
        assert_eq!(memory_limit("0::/pod/container\n", mount), Some(1 << 29));
        assert_eq!(memory_limit("0::/elsewhere\n", mount), None);
    }

    #[test]
    fn version_1_and_a_container_that_sees_only_its_own_group() {
        let mount = tempfile::tempdir().unwrap();
        let mount = mount.path();
        write(
            mount,
            "memory/memory.limit_in_bytes",
            "9223372036854771712\n",
        );
        let groups = "5:devices:/\n4:memory:/job/step\n0::/\n";
        assert_eq!(memory_limit(groups, mount), None);
        write(mount, "memory/job/memory.limit_in_bytes", "268435456\n");
        assert_eq!(memory_limit(groups, mount), Some(1 << 28));
        // The path is the host's, the mount the container's.
        write(mount, "memory/memory.limit_in_bytes", "134217728\n");
        assert_eq!(
            memory_limit("4:memory:/docker/1234\n", mount),
            Some(1 << 27)
        );
        assert_eq!(memory_limit("nonsense\n4:memory\n", mount), None);
    }

    #[test]
    fn slots_share_what_the_worker_leaves() {
        let room = |memory| Room { cores: 4, memory };
        assert_eq!(room(None).memory_of_a_slot(4), None);
        assert_eq!(room(Some(1 << 30)).memory_of_a_slot(4), Some(240 << 20));
        assert_eq!(room(Some(64 << 20)).memory_of_a_slot(1), Some(32 << 20));
    }
}
