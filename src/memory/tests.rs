//! Levels of pressure, and control groups in a directory of our own.

use proptest::prelude::*;

use super::*;

/// Levels after each use in turn, in percent.
fn levels(used: &[u64]) -> Vec<u8> {
    let mut pressure = Pressure::None;
    let after = |used: &u64| {
        pressure = pressure.after(*used, 100);
        pressure.level()
    };
    used.iter().map(after).collect()
}

#[test]
fn each_level_begins_at_its_threshold_and_ends_a_little_below() {
    assert_eq!(levels(&[84, 85, 84, 80, 79, 84]), [0, 1, 1, 1, 0, 0]);
    assert_eq!(levels(&[92, 91, 87, 86, 80, 79]), [2, 2, 2, 1, 1, 0]);
    assert_eq!(levels(&[97, 96, 92, 91, 120, 0]), [3, 3, 3, 2, 3, 0]);
}

#[test]
fn a_gauge_tells_what_it_was_set_to() {
    let gauge = Gauge::default();
    for pressure in Pressure::ALL {
        gauge.set(pressure);
        assert_eq!(gauge.pressure(), pressure);
        let given_up = Pressure::ALL.into_iter().filter(|level| gauge.is_at(*level)).count();
        assert_eq!(given_up, usize::from(pressure.level()) + 1);
    }
}

proptest! {
    #[test]
    fn more_use_never_means_less_pressure(used: u64, more: u64, limit: u64, before in 0_usize..4) {
        let before = Pressure::ALL[before];
        prop_assert!(before.after(used, limit) <= before.after(used.saturating_add(more), limit));
    }
}

/// A directory with these files, one a line: `path = content`.
fn mounted(name: &str, files: &str) -> PathBuf {
    let root = std::env::temp_dir().join(format!("hiveway-{}-{name}", std::process::id()));
    for (path, content) in files.lines().filter_map(|line| line.trim().split_once(" = ")) {
        let file = root.join(path);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, content.replace("; ", "\n")).unwrap();
    }
    root
}

fn limit_and_use(meter: Option<Meter>) -> Option<(u64, Option<u64>)> {
    meter.map(|meter| (meter.limit, meter.used()))
}

#[test]
fn the_smallest_limit_counts_and_pages_of_files_that_can_go_do_not() {
    let root = mounted(
        "v2",
        "memory.max = max
         a/memory.max = 1000
         a/memory.current = 900
         a/memory.stat = anon 500; inactive_file 300; active_file 100
         a/b/memory.max = max
         a/b/memory.current = 700",
    );
    let meter = |configured| Meter::below(&root, "0::/a/b\n", configured);
    assert_eq!(limit_and_use(meter(None)), Some((1000, Some(600))));
    assert_eq!(limit_and_use(meter(Some(800))), Some((800, Some(600))));
    assert_eq!(limit_and_use(meter(Some(5000))), Some((1000, Some(600))));
    std::fs::remove_dir_all(root).unwrap();
}

#[test]
fn a_group_of_the_first_version_is_found_also_where_its_path_is_not_mounted() {
    let root = mounted(
        "v1",
        "memory/memory.limit_in_bytes = 2000
         memory/memory.usage_in_bytes = 1500
         memory/memory.stat = inactive_file 7; total_inactive_file 500",
    );
    let groups = "5:memory:/docker/x\n0::/\n";
    assert_eq!(limit_and_use(Meter::below(&root, groups, None)), Some((2000, Some(1000))));
    std::fs::remove_dir_all(root).unwrap();
}

#[test]
fn without_a_limit_of_the_group_the_process_alone_is_measured() {
    let root = mounted("none", "memory/memory.limit_in_bytes = 9223372036854771712");
    assert_eq!(Meter::below(&root, "5:memory:/\n0::/\n", None), None);
    let meter = Meter::below(&root, "", Some(1 << 30)).unwrap();
    assert_eq!(meter.limit, 1 << 30);
    assert!(meter.used().is_some_and(|used| used > 1 << 20));
    std::fs::remove_dir_all(root).unwrap();
}
