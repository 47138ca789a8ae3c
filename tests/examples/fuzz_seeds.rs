//! `fuzz_seeds FOLDER`: writes what the fuzz targets begin with, FOLDER/TARGET/NAME: each file of the hostile images for
//! the reader of its format, command lines, and access lists.

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};

use broker::prober::answer::{ANSWER_LIMIT, QUESTION_LIMIT, Question, answer};
use tests::corpus::cases;

/// The first bytes of each format, and the target whose reader takes it.
const FORMATS: [(&[u8], &str); 7] = [
    (b"QFI\xfb\0\0\0\x01", "qcow"),
    (b"QFI\xfb", "qcow2"),
    (b"QED\0", "qed"),
    (b"KDMV", "vmdk"),
    (b"# Disk DescriptorFile", "vmdk"),
    (b"vhdxfile", "vhdx"),
    (b"conectix", "vpc"),
];

/// Bytes in one part of a packed image.
const PART: usize = 512;

/// Command lines of `qemu-system-x86_64`.
const GUESTS: &[&[&str]] = &[
    &["-drive", "file=a,,b.qcow2,format=qcow2,if=none,id=d,cache=none", "-device", "virtio-blk-pci,drive=d"],
    &["-drive", r#"file=json:{"driver":"qcow2","file":{"driver":"file","filename":"a"}},if=none"#],
    &["-drive", "file.driver=file,file.filename=json:x,backing.file.filename=b,backing.driver=raw,snapshot=on"],
    &["-blockdev", r#"{"driver":"qcow2","node-name":"n","file":"f","backing":null,"read-only":false}"#],
    &["-blockdev", "driver=file,node-name=f,filename=fd:4,auto-read-only=on,cache.direct=on"],
    &["-blockdev", r"{'driver':'raw','file':{'driver':'host_device','filename':'/dev/sda'},'offset':512}"],
    &["-hda", "disk.img", "-cdrom", "nbd://127.0.0.1/x", "-snapshot", "-set", "drive.d.file=x"],
    &["-add-fd", "fd=4,set=1,opaque=x", "-drive", "file=/dev/fdset/1,format=raw,readonly=on"],
    &["-netdev", "tap,id=n,fds=4:5,vhostfds=6:7", "-nic", "user,model=e1000,hostfwd=tcp::22-:22"],
    &[
        "-netdev",
        "tap,id=n,ifname=t%d,script=a,,b,queues=2,vhost=try,vnet_hdr=on",
        "-device",
        "e1000,netdev=n,mac=2:0:0:0:0:1",
    ],
    &[
        "-netdev",
        r#"{"type":"bridge","id":"n","br":"lan"}"#,
        "-nic",
        "bridge,helper=/h,mac=5",
        "-net",
        "tap",
        "-net",
        "nic",
    ],
    &["-netdev", "hubport,id=h,hubid=0,netdev=n", "-netdev", "tap,id=n,fds=3:4,vhostforce=on", "-set", "netdev.n.fd=5"],
    &["-chardev", "socket,id=c,path=/x,server=on,wait=off", "-mon", "chardev=c,mode=control", "-serial", "file:log"],
    &["-object", "secret,id=s,file=key", "-object", r#"{"qom-type":"memory-backend-file","id":"m","mem-path":"x"}"#],
    &["-readconfig", "x", "-machine", "pc,accel=kvm:tcg,pflash0=n", "-bios", "b", "-kernel", "k", "-dtb", "d"],
];

/// Access lists for bridges, with what they include behind record separators.
const LISTS: &[&str] = &[
    "# mine\nallow br0\ndeny br1\n",
    "allow all\r\ndeny\tvirbr0 user:alice group:2\n",
    "include /1\n\x1eallow br0 user:1 group:kvm\ninclude /2\x1edeny lan",
    "include /1\x1einclude /0",
    "allow br0 # mine\ninclude 1\ninclude /none",
];

/// Command lines of the tools.
const TOOLS: &[&[&str]] = &[
    &["qemu-img", "info", "--backing-chain", "-f", "qcow2", "--output=json", "top.qcow2"],
    &["qemu-img", "convert", "-pf", "qcow2", "-O", "raw", "-o", "size=1M,preallocation=off", "a", "b", "out"],
    &["qemu-img", "convert", "--image-opts", "driver=qcow2,file.filename=a,,b", "-O", "qcow2", "-B", "base", "out"],
    &["qemu-img", "create", "-f", "qcow2", "-o", "backing_file=b,backing_fmt=raw,data_file=d", "top", "1G"],
    &["qemu-img", "rebase", "-u", "-F", "qcow2", "-b", "new", "top", "--object", "secret,id=s,file=k"],
    &["qemu-img", "resize", "--shrink", "disk", "--", "-1G"],
    &["qemu-img", "dd", "-f", "raw", "if=a", "of=b", "bs=512", "count=1", "-O", "raw"],
    &["qemu-io", "-f", "qcow2", "-c", "open -o driver=raw x", "-n", "-t", "none", "top"],
    &["qemu-nbd", "-r", "-f", "qcow2", "-e", "2", "--fork", "--pid-file=p", "-x", "name", "-L", "top"],
    &["qemu-storage-daemon", "--blockdev", "driver=file,node-name=f,filename=a", "--export", "nbd,id=e,node-name=f"],
    &["qemu-storage-daemon", "--nbd-server", "addr.type=fd,addr.str=4", "--chardev", "socket,id=c,fd=5", "--daemonize"],
];

fn main() -> Result<(), Box<dyn Error>> {
    let folder: PathBuf = std::env::args_os().nth(1).ok_or("give the folder to write to")?.into();
    // An attacker's favourite; nothing is opened here.
    for group in cases::all(Path::new("/var/lib/images/aside/canary")) {
        for case in group.honest.iter().chain(&group.hostile) {
            for (_, bytes) in case.files() {
                add_image(&folder, bytes)?;
            }
        }
    }
    let guests = GUESTS.iter().map(|words| [&["qemu-system-x86_64"], *words].concat());
    for words in guests.chain(TOOLS.iter().map(|words| words.to_vec())) {
        add(&folder, "command_line", words.join("\n").as_bytes())?;
    }
    LISTS.iter().try_for_each(|list| add(&folder, "bridge_acl", list.as_bytes()))
}

/// Adds an image for the reader of its format, if it has one, and for the one that guesses.
fn add_image(folder: &Path, bytes: &[u8]) -> Result<(), Box<dyn Error>> {
    if let Some((_, target)) = FORMATS.iter().find(|(magic, _)| bytes.starts_with(magic)) {
        let packed = pack(bytes)?;
        add(folder, target, &packed)?;
        add(folder, "detect", &packed)?;
        add(folder, "judge", &answer_about(bytes))?;
    }
    Ok(())
}

/// What an honest prober says about an image, behind the byte that stands for an unstated format.
fn answer_about(bytes: &[u8]) -> Vec<u8> {
    let (mut question, mut buffer) = ([0; QUESTION_LIMIT], [0; ANSWER_LIMIT]);
    let question = Question { number: 1, stated: None }.encode(&mut question);
    let length = answer(&bytes, question, &mut Box::default(), &mut buffer);
    [&[0xff], buffer.get(..length).unwrap_or_default()].concat()
}

/// The parts that are not zero, each behind its number: an image of megabytes is then small, and the fuzzer can move what
/// is in it.
fn pack(bytes: &[u8]) -> Result<Vec<u8>, Box<dyn Error>> {
    let mut packed = Vec::new();
    let last = bytes.len().div_ceil(PART).saturating_sub(1);
    for (number, part) in bytes.chunks(PART).enumerate() {
        // The last one says how long the image is.
        if number == last || part.iter().any(|byte| *byte != 0) {
            packed.extend(u16::try_from(number)?.to_le_bytes());
            packed.extend(part);
        }
    }
    Ok(packed)
}

/// Writes one seed, unless it is there already.
fn add(folder: &Path, target: &str, bytes: &[u8]) -> Result<(), Box<dyn Error>> {
    let folder = folder.join(target);
    fs::create_dir_all(&folder)?;
    // FNV-1a (Fowler, Noll and Vo), 64 bits: the same bytes have the same name in every run.
    let name = bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3));
    Ok(fs::write(folder.join(format!("{name:016x}")), bytes)?)
}
