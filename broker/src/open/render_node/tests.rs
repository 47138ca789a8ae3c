use std::os::unix::fs::symlink;

use super::*;

/// A `/sys` with the graphics card 226:131, whose device is `device`, beneath the folder of its plug.
fn make_sys(test: &str, device: &str, bus: &str) -> PathBuf {
    let name = format!("broker-render-node-{test}-{}", std::process::id());
    let sys = std::env::temp_dir().canonicalize().unwrap().join(name);
    let folder = sys.join("devices/plug").join(device);
    let node = folder.join("drm/renderD131");
    for folder in ["class/drm", "dev/char", "bus/virtio", "bus/pci"].map(|name| sys.join(name)) {
        fs::create_dir_all(folder).unwrap();
    }
    fs::create_dir_all(&node).unwrap();
    fs::write(node.join("uevent"), "MAJOR=226\nMINOR=131\nDEVNAME=dri/renderD131\n").unwrap();
    symlink(sys.join("class/drm"), node.join("subsystem")).unwrap();
    symlink("../..", node.join("device")).unwrap();
    symlink(&node, sys.join("dev/char/226:131")).unwrap();
    for (folder, bus) in [(&folder, bus), (&sys.join("devices/plug"), "pci")] {
        symlink(sys.join("bus").join(bus), folder.join("subsystem")).unwrap();
        for file in ["uevent", "vendor", "config", "resource0"] {
            fs::write(folder.join(file), "").unwrap();
        }
    }
    sys
}

#[test]
fn a_card_is_described_by_what_names_its_driver() {
    let sys = make_sys("card", "card", "pci");
    let found = describe(&sys, (226, 131)).unwrap();
    let (device, node) = (sys.join("devices/plug/card"), sys.join("devices/plug/card/drm/renderD131"));
    assert_eq!(found.node, Path::new("/dev/dri/renderD131"));
    assert_eq!(found.files, [node.join("uevent"), device.join("uevent"), device.join("vendor")]);
    let links = [
        (sys.join("dev/char/226:131"), node.clone()),
        (node.join("device"), device.clone()),
        (device.join("subsystem"), sys.join("bus/pci")),
    ];
    assert_eq!(found.links, links);
    assert_eq!(found.siblings, device.join("drm"));
    fs::remove_dir_all(sys).unwrap();
}

#[test]
fn a_virtio_card_is_described_with_what_it_is_plugged_into() {
    let sys = make_sys("virtio", "virtio0", "virtio");
    let found = describe(&sys, (226, 131)).unwrap();
    assert!(found.files.contains(&sys.join("devices/plug/vendor")), "{found:?}");
    assert!(found.links.contains(&(sys.join("devices/plug/subsystem"), sys.join("bus/pci"))), "{found:?}");
    fs::remove_dir_all(sys).unwrap();
}

#[test]
fn what_is_no_graphics_device_is_not_described() {
    let sys = make_sys("other", "card", "pci");
    let node = sys.join("devices/plug/card/drm/renderD131");
    fs::remove_file(node.join("subsystem")).unwrap();
    symlink(sys.join("bus/pci"), node.join("subsystem")).unwrap();
    assert_eq!(describe(&sys, (226, 131)), None);
    assert_eq!(describe(&sys, (1, 3)), None);
    fs::remove_dir_all(sys).unwrap();
}
