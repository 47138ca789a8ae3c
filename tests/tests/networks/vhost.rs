//! vhost-net, where it is missing.

use tests::{Result, need};

use crate::scene::{Scene, taps_of};

/// Makes `/dev/vhost-net`, where there is one, a device that no driver has (minor 250 of the major 10).
const NO_VHOST: &str = "test ! -e /dev/vhost-net || { mknod /dev/net/none c 10 250 && \
                        mount --bind /dev/net/none /dev/vhost-net; }";

#[test]
fn missing_vhost_stops_the_start_where_it_is_demanded() -> Result<()> {
    need!(Broker, Root, Qemu, Landlock, NetworkNamespaces, Tun);
    let scene = Scene::new()?;
    scene.network.run(None, "sh", &["-c", NO_VHOST])?;
    let network = |vhost: &str| format!("tap,ifname=gate0,script=no,downscript=no,{vhost}");
    for demanded in ["vhost=on", "vhostforce=on"] {
        scene.refuse(scene.start(&[&network(demanded)]), &["vhost", demanded])?;
    }
    let interfaces = scene.network.interfaces()?;
    let (emulator, qmp) = scene.start(&[&network("vhost=try")]).start_with_monitor()?;
    assert!(scene.network.link("gate0")?.is_some());
    assert_eq!(taps_of(emulator.process())?, 1);
    let said = scene.quit(emulator, qmp, &interfaces)?.stderr;
    assert_eq!(said.matches("vhost-net is not used").count(), 1, "{said}");
    Ok(())
}
