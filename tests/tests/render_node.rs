//! A graphics device of the host that draws unseen: `-display egl-headless`, `-spice gl=on`.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;

use rustix::fs::OFlags;
use serde_json::{Value, json};
use tests::hostile::{Puppet, Scene};
use tests::{
    ALIVE, BrokerCommand, During, Emulator, Error, ORDINARY_USER, PATIENCE, Qmp, Result, Workdir, need, raw_boot_disk,
    until,
};

/// Where the nodes of graphics devices are.
const NODES: &str = "/dev/dri";

/// Where the emulator writes what is to be seen.
const SCREEN: &str = "shots/screen.ppm";

/// The nodes that draw and have no screen, in the order of their names.
fn render_nodes() -> Result<Vec<String>> {
    let names = names_in(Path::new(NODES))?.into_iter().filter(|name| name.starts_with("renderD"));
    Ok(names.map(|name| format!("{NODES}/{name}")).collect())
}

fn names_in(folder: &Path) -> Result<BTreeSet<String>> {
    let listed = fs::read_dir(folder).during(format!("list {}", folder.display()))?;
    Ok(listed.filter_map(|entry| Some(entry.ok()?.file_name().to_string_lossy().into_owned())).collect())
}

/// Starts a guest with a graphics card whose pictures `display` draws, and waits until it runs.
fn start(workdir: &Workdir, display: &[String], user: Option<u32>, bare: bool) -> Result<(Emulator, Qmp)> {
    raw_boot_disk(workdir, "disk.raw")?;
    fs::create_dir_all(workdir.path("shots")).during("make a folder for pictures")?;
    let command = BrokerCommand::new(workdir).options(["--allow", "create=shots"]);
    let command = command.boot_sector("file=disk.raw,format=raw").args(display).args(["-device", "virtio-vga-gl"]);
    let command = user.into_iter().fold(command, BrokerCommand::user);
    let (emulator, qmp) = if bare { command.bare() } else { command }.start_with_monitor()?;
    emulator.wait_for_output("the guest to run", |text| text.contains(ALIVE))?;
    Ok((emulator, qmp))
}

/// What the guest's screen shows, as a PPM image.
fn screen(workdir: &Workdir, qmp: &mut Qmp) -> Result<Vec<u8>> {
    qmp.execute("screendump", json!({"filename": SCREEN}))?;
    workdir.read(SCREEN)
}

/// Pixels of a VGA text screen, the smallest that is to be seen.
const PIXELS: usize = 640 * 400;

/// Whether a picture has more than one colour.
fn shows_something(picture: &[u8]) -> bool {
    let pixels: BTreeSet<&[u8]> = picture.rchunks_exact(3).take(PIXELS).collect();
    pixels.len() > 1
}

/// What a bare emulator shows of the guest, and how it names its display.
fn bare_screen(display: &[String], user: Option<u32>) -> Result<(Vec<u8>, Value)> {
    let workdir = Workdir::new()?;
    let (_emulator, mut qmp) = start(&workdir, display, user, true)?;
    let picture = until(PATIENCE, "the firmware's screen", || {
        let picture = screen(&workdir, &mut qmp)?;
        Ok(shows_something(&picture).then_some(picture))
    })?;
    Ok((picture, qmp.execute("query-display-options", json!({}))?))
}

/// Compares what is to be seen bare and under the broker.
fn compare(display: &[&str], user: Option<u32>) -> Result<()> {
    let display: Vec<String> = display.iter().map(|&word| word.to_owned()).collect();
    let (expected, options) = bare_screen(&display, user)?;
    let workdir = Workdir::new()?;
    let (mut emulator, mut qmp) = start(&workdir, &display, user, false)?;
    // The cursor blinks.
    until(PATIENCE, "the same picture", || Ok((screen(&workdir, &mut qmp)? == expected).then_some(())))
        .map_err(|error| emulator.explain(error))?;
    assert_eq!(qmp.execute("query-display-options", json!({}))?, options, "{display:?}");
    qmp.quit()?;
    let finished = emulator.wait()?;
    assert!(finished.status.success(), "{finished:?}");
    let refused = finished.stderr.lines().filter(|line| line.starts_with("broker: refused"));
    assert_eq!(refused.collect::<Vec<_>>(), [""; 0], "nothing that a graphics library asks for is refused aloud");
    Ok(())
}

#[test]
fn a_node_that_is_named_draws_the_same_picture() -> Result<()> {
    need!(Broker, RenderNode, Qemu, Landlock, UserNamespaces);
    for node in render_nodes()? {
        compare(&["-display", &format!("egl-headless,rendernode={node}")], None)?;
    }
    Ok(())
}

#[test]
fn a_node_that_is_not_named_is_found() -> Result<()> {
    need!(Broker, RenderNode, Qemu, Landlock, UserNamespaces);
    compare(&["-display", "egl-headless"], None)
}

#[test]
fn an_ordinary_user_draws_as_well() -> Result<()> {
    need!(Broker, RenderNode, Qemu, Landlock, UserNamespaces);
    compare(&["-display", "egl-headless"], Some(ORDINARY_USER))
}

#[test]
fn spice_draws_with_a_node_too() -> Result<()> {
    need!(Broker, RenderNode, Qemu, Landlock, UserNamespaces);
    let node = render_nodes()?.into_iter().next().ok_or_else(|| Error::Unexpected("no node".into()))?;
    let spice = format!("unix=on,addr=spice.sock,disable-ticketing=on,gl=on,rendernode={node}");
    let workdir = Workdir::new()?;
    let display = ["-spice".to_owned(), spice];
    let (mut emulator, mut qmp) = start(&workdir, &display, None, false)?;
    let enabled = qmp.execute("query-spice", json!({}))?;
    assert_eq!(enabled.get("enabled"), Some(&json!(true)), "{enabled}");
    assert!(emulator.process().open_flags_of(Path::new(&node))?.iter().any(|flags| flags.contains(OFlags::RDWR)));
    qmp.quit()?;
    assert!(emulator.wait()?.status.success());
    Ok(())
}

/// What somebody who has taken over the emulator reaches of graphics devices.
fn reach_for_more(user: Option<u32>) -> Result<()> {
    let scene = Scene::new()?;
    let puppet = Puppet::start_as(&scene, user, |command| command.args(["-display", "egl-headless"]))?;
    let inside = format!("/proc/{}/root{NODES}", puppet.process().0);
    let shown = names_in(Path::new(&inside))?;
    let mut kinds = fs::read_dir(&inside).during("list nodes")?.filter_map(|entry| entry.ok()?.file_type().ok());
    // QEMU takes what is listed as a character device.
    assert!(shown.len() == 1 && kinds.all(|kind| kind.is_char_device()), "{shown:?}");
    for name in names_in(Path::new(NODES))? {
        let expected = if shown.contains(&name) { "ok" } else { "ENOENT" };
        assert_eq!(puppet.open(&format!("{NODES}/{name}"), OFlags::RDWR)?, expected, "{name}");
    }
    assert_eq!(puppet.open(NODES, OFlags::RDONLY | OFlags::DIRECTORY)?, "ok");
    assert_ne!(puppet.create(&format!("{NODES}/more"), 0o600)?, "ok");
    let number = shown.iter().find_map(|name| name.strip_prefix("renderD")).unwrap_or_default();
    let own = format!("/sys/dev/char/226:{number}");
    assert_eq!(puppet.open(&format!("{own}/uevent"), OFlags::RDONLY)?, "ok");
    assert_ne!(puppet.open(&format!("{own}/uevent"), OFlags::WRONLY)?, "ok");
    let device = names_in(&Path::new(&own).join("device"))?;
    let described = ["uevent", "vendor", "device", "subsystem_vendor", "subsystem_device", "revision"];
    // Folders would open for reading.
    for name in device.iter().filter(|name| !["drm", "subsystem"].contains(&name.as_str())) {
        let expected = if described.contains(&name.as_str()) { "ok" } else { "ENOENT" };
        assert_eq!(puppet.open(&format!("{own}/device/{name}"), OFlags::RDONLY)?, expected, "{name}");
    }
    for other in ["/sys/class/drm", "/sys/bus/pci/devices", "/sys/devices"] {
        assert_ne!(puppet.open(other, OFlags::RDONLY)?, "ok", "{other}");
    }
    let finished = puppet.end()?;
    scene.assert_unharmed(&finished)
}

#[test]
fn one_node_is_all_that_is_reached() -> Result<()> {
    need!(Broker, Root, RenderNode, Qemu, Landlock, UserNamespaces);
    reach_for_more(None)
}

#[test]
fn a_users_emulator_reaches_one_node_as_well() -> Result<()> {
    need!(Broker, Root, RenderNode, Qemu, Landlock, UserNamespaces);
    reach_for_more(Some(ORDINARY_USER))
}
