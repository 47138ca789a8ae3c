//! Latency of a reopen as QEMU sees it: `blockdev-reopen`, which switches the host's caching of a file node off and on.
//! QEMU opens the file anew each time, once; the rest of the time goes into QMP, in bare QEMU as well.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::error::Result;
use crate::figures::{high, middle, range, sorted};
use crate::folder::Folder;
use crate::media::Media;
use crate::qmp::Emulator;
use crate::quiet;

/// Starts of each pair of emulators: where the scheduler puts the processes may change from one to the next.
const STARTS: usize = 3;
/// Reopens of each emulator after one start, in blocks that take turns.
const BLOCKS: usize = 20;
const BLOCK: usize = 50;
/// Images in a chain, the top among them.
const DEPTHS: [usize; 3] = [1, 16, 128];

/// What is measured of one pair of emulators: microseconds.
struct Pair {
    bare: Vec<f64>,
    brokered: Vec<f64>,
}

/// Measures and prints.
pub(crate) fn print(broker: &Path, folder: &Folder, media: &Media) -> Result<()> {
    println!(
        "\none reopen, {STARTS} starts of {} each: microseconds, median and 99th percentile; differences of the medians, \
         over all and by start; {} on {}",
        BLOCKS * BLOCK,
        folder.path().display(),
        folder.file_system(),
    );
    for count in media.counts() {
        let raw = |_| Ok(Image { name: "image.raw".into(), format: "raw" });
        compare(folder, &format!("{count} more grants"), raw, || Media::broker(folder, broker, count))?;
    }
    for depth in DEPTHS {
        let top = |owner| Ok(Image { name: folder.make_chain(owner, depth)?, format: "qcow2" });
        compare(folder, &format!("a chain of {depth}"), top, || Media::broker(folder, broker, 0))?;
    }
    Ok(())
}

/// What is reopened.
struct Image {
    name: String,
    format: &'static str,
}

/// Measures one case and prints its line. Each emulator has an image of its own, for it locks it.
fn compare(
    folder: &Folder,
    name: &str,
    image: impl Fn(&'static str) -> Result<Image>,
    brokered: impl Fn() -> Command,
) -> Result<()> {
    let images = (image("bare")?, image("brokered")?);
    let mut pairs = Vec::with_capacity(STARTS);
    for _ in 0..STARTS {
        let mut bare = folder.command("sh");
        bare.args(["-c", "exec \"$@\"", "sh"]);
        pairs.push(measure((start(bare, &images.0)?, &images.0), (start(brokered(), &images.1)?, &images.1))?);
    }
    print_line(name, &pairs);
    Ok(())
}

fn print_line(name: &str, pairs: &[Pair]) {
    let own = |pair: &Pair| middle(&ascending(&pair.brokered)) - middle(&ascending(&pair.bare));
    let (least, most) = range(&sorted(pairs.iter().map(own)));
    let bare = sorted(pairs.iter().flat_map(|pair| pair.bare.iter().copied()));
    let brokered = sorted(pairs.iter().flat_map(|pair| pair.brokered.iter().copied()));
    let (bare, brokered) = ((middle(&bare), high(&bare)), (middle(&brokered), high(&brokered)));
    println!(
        "  {name:<16} bare {:6.1} {:6.1}   broker {:6.1} {:6.1}   x{:.2} x{:.2}   {:+.1} ({least:+.1} to {most:+.1}) {:+.1}",
        bare.0,
        bare.1,
        brokered.0,
        brokered.1,
        brokered.0 / bare.0,
        brokered.1 / bare.1,
        brokered.0 - bare.0,
        brokered.1 - bare.1,
    );
}

fn ascending(values: &[f64]) -> Vec<f64> {
    sorted(values.iter().copied())
}

/// An emulator with no machine, whose only work is the block layer's.
fn start(mut command: Command, image: &Image) -> Result<Emulator> {
    let Image { name, format } = image;
    command.args(["qemu-system-x86_64", "-machine", "none", "-nodefaults", "-display", "none", "-qmp", "stdio"]);
    command.arg("-blockdev").arg(format!("driver=file,node-name=file,filename={name}"));
    command.arg("-blockdev").arg(format!("driver={format},node-name=top,file=file"));
    Emulator::start(command)
}

/// Lets the two take turns, and ends them.
fn measure(bare: (Emulator, &Image), brokered: (Emulator, &Image)) -> Result<Pair> {
    let ((mut bare, bare_image), (mut brokered, brokered_image)) = (bare, brokered);
    let mut pair = Pair { bare: Vec::new(), brokered: Vec::new() };
    // One block each to warm up.
    toggle(&mut bare, bare_image)?;
    toggle(&mut brokered, brokered_image)?;
    quiet::wait();
    for _ in 0..BLOCKS {
        pair.bare.extend(toggle(&mut bare, bare_image)?);
        pair.brokered.extend(toggle(&mut brokered, brokered_image)?);
    }
    bare.quit()?;
    brokered.quit()?;
    Ok(pair)
}

/// One block of reopens: microseconds.
fn toggle(emulator: &mut Emulator, image: &Image) -> Result<Vec<f64>> {
    let microseconds = |time: Duration| time.as_secs_f64() * 1e6;
    let name = &image.name;
    let reopen = |number: usize| {
        let direct = number.is_multiple_of(2);
        let options = format!(
            "{{\"driver\":\"file\",\"node-name\":\"file\",\"filename\":\"{name}\",\"cache\":{{\"direct\":{direct}}}}}"
        );
        emulator.execute(&format!("{{\"execute\":\"blockdev-reopen\",\"arguments\":{{\"options\":[{options}]}}}}"))
    };
    (0..BLOCK).map(reopen).map(|time| time.map(microseconds)).collect()
}
