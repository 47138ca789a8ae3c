//! The same command line with and without the broker: exit status, both outputs, and every file afterwards.

use tests::{Result, need};

use crate::scene::{Images, Outcome};

/// Command lines. A word may hold `~` for a space; `''` is an empty word.
const LINES: &[&str] = &[
    "qemu-img",
    "qemu-img -V",
    "qemu-img --help",
    "qemu-img info --help",
    "qemu-img info top.qcow2",
    "qemu-img info -f qcow2 top.qcow2",
    "qemu-img info orphan.qcow2",
    "qemu-img info --output=json -f raw raw.img",
    "qemu-img info --backing-chain -f qcow2 leaf.qcow2",
    "qemu-img info --image-opts driver=qcow2,file.filename=base.qcow2",
    "qemu-img info -f qcow2",
    "qemu-img info a b",
    "qemu-img info missing",
    "qemu-img info --output=xml -f raw raw.img",
    "qemu-img info -U -f qcow2 snap.qcow2",
    "qemu-img check -f qcow2 leaf.qcow2",
    "qemu-img check -qf qcow2 base.qcow2",
    "qemu-img check -r all base.qcow2",
    "qemu-img check --repair=leaks --output=json -f qcow2 base.qcow2",
    "qemu-img check -f raw raw.img",
    "qemu-img check -r some -f qcow2 base.qcow2",
    "qemu-img map -f qcow2 leaf.qcow2",
    "qemu-img map --output=json -f qcow2 leaf.qcow2",
    "qemu-img map --start-offset 64k --max-length=128k -f qcow2 top.qcow2",
    "qemu-img compare -f raw -F qcow2 raw.img base.qcow2",
    "qemu-img compare -f qcow2 -F qcow2 base.qcow2 top.qcow2",
    "qemu-img compare -sf qcow2 -F qcow2 base.qcow2 other.qcow2",
    "qemu-img compare -f raw raw.img",
    "qemu-img convert -f qcow2 -O raw leaf.qcow2 out.raw",
    "qemu-img convert -pf qcow2 -O raw top.qcow2 out.raw",
    "qemu-img convert -cf raw -O qcow2 raw.img out.qcow2",
    "qemu-img convert -f raw -O qcow2 -o cluster_size=4k,compat=v3 -o preallocation=metadata raw.img out.qcow2",
    "qemu-img convert -nf raw -O raw extra.img raw.img",
    "qemu-img convert -n --target-is-zero -f qcow2 -O raw base.qcow2 extra.img",
    "qemu-img convert -f raw -O raw raw.img extra.img out.raw",
    "qemu-img convert -f qcow2 -O qcow2 -B base.qcow2 -F qcow2 top.qcow2 out.qcow2",
    "qemu-img convert -f qcow2 -O qcow2 -o backing_file=base.qcow2,backing_fmt=qcow2 top.qcow2 out.qcow2",
    "qemu-img convert --image-opts driver=qcow2,file.driver=file,file.filename=top.qcow2 out.raw",
    "qemu-img convert --image-opts -n --target-image-opts driver=raw,file.filename=raw.img driver=raw,file.filename=extra.img",
    "qemu-img convert -f qcow2 -l snapshot.name=one -O raw snap.qcow2 out.raw",
    "qemu-img convert -S 4k -m 4 -W -f qcow2 -O raw base.qcow2 out.raw",
    "qemu-img convert -S 0 -f raw raw.img out.raw",
    "qemu-img convert -C -f raw raw.img out.raw",
    "qemu-img convert --bitmaps -f qcow2 -O qcow2 bits.qcow2 out.qcow2",
    "qemu-img convert -U -t writethrough -T writeback -r 100M -f raw raw.img out.raw",
    "qemu-img convert --salvage -f raw raw.img -- out.raw",
    "qemu-img convert -t none -T none -f qcow2 -O qcow2 base.qcow2 out.qcow2",
    "qemu-img convert -f raw -O nosuch raw.img out.raw",
    "qemu-img convert -f raw -O qcow2 -o nosuch=1 raw.img out.qcow2",
    "qemu-img convert -f raw -O qcow2 -o help",
    "qemu-img convert -f raw -O qcow2 -o help raw.img out.qcow2",
    "qemu-img convert -f raw missing out.raw",
    "qemu-img convert -f raw raw.img nowhere/out.raw",
    "qemu-img convert -f raw raw.img folder",
    "qemu-img convert -f raw raw.img folder/",
    "qemu-img convert -f qcow2 -O raw base.qcow2 extra.img",
    "qemu-img convert -f raw -O luks raw.img out.luks",
    "qemu-img convert -f raw -O qed raw.img out.qed",
    "qemu-img convert -f raw -O parallels raw.img out.hds",
    "qemu-img convert -f raw -O vmdk -o subformat=streamOptimized raw.img vary.vmdk",
    "qemu-img convert -f raw -O vdi raw.img vary.vdi",
    "qemu-img convert -f raw -O vhdx raw.img vary.vhdx",
    "qemu-img convert -f raw -O vpc raw.img vary.vpc",
    "qemu-img create --object secret,id=s,data=abc -f luks -o key-secret=s,iter-time=10 vary.luks 1M",
    "qemu-img create --object secret,id=s,file=secret -f luks -o key-secret=s,iter-time=10 vary.luks 1M",
    "qemu-img create --object secret,id=s,file=secret -f qcow2 -o encrypt.format=luks,encrypt.key-secret=s vary.qcow2 1M",
    "qemu-img create new.raw 1M",
    "qemu-img create -qf qcow2 new.qcow2 1M",
    "qemu-img create -f qcow2 -b base.qcow2 -F qcow2 new.qcow2",
    "qemu-img create -f qcow2 -b base.qcow2 new.qcow2",
    "qemu-img create -f qcow2 -u -b nothing -F raw new.qcow2 2M",
    "qemu-img create -f qcow2 -b missing -F raw new.qcow2",
    "qemu-img create -f qcow2 -o data_file=new.data,data_file_raw=on new.qcow2 1M",
    "qemu-img create -f qcow2 new.qcow2",
    "qemu-img create -f qcow2 new.qcow2 1X",
    "qemu-img create -f qcow2 new.qcow2 1M 2M",
    "qemu-img create -f qcow2 -o cluster_size=3 new.qcow2 1M",
    "qemu-img create -f qcow2 -o cluster_size=3 other.qcow2 1M",
    "qemu-img create -f qcow2 other.qcow2 1M",
    "qemu-img create -f qcow2 nowhere/new.qcow2 1M",
    "qemu-img create -f qcow2 file:new.qcow2 1M",
    "qemu-img create -f qcow2 /dev/null 1M",
    "qemu-img create -f qcow2 -o help new.qcow2",
    "qemu-img dd -f qcow2 -O raw bs=64k if=leaf.qcow2 of=out.raw",
    "qemu-img dd -f raw -O qcow2 bs=4k count=20 skip=1 if=raw.img of=out.qcow2",
    "qemu-img dd -f raw if=raw.img",
    "qemu-img dd -f raw sieve=1 if=raw.img of=out.raw",
    "qemu-img measure --size 1G -O qcow2",
    "qemu-img measure -O qcow2 --output=json -f qcow2 top.qcow2",
    "qemu-img snapshot -l snap.qcow2",
    "qemu-img snapshot -a one snap.qcow2",
    "qemu-img snapshot -d one snap.qcow2",
    "qemu-img snapshot -a none snap.qcow2",
    "qemu-img rebase -uf qcow2 -F qcow2 -b other.qcow2 top.qcow2",
    "qemu-img rebase -uf qcow2 -F qcow2 -b base.qcow2 orphan.qcow2",
    "qemu-img rebase -f qcow2 -F qcow2 -b other.qcow2 top.qcow2",
    "qemu-img rebase -f qcow2 -F qcow2 -b base.qcow2 leaf.qcow2",
    "qemu-img rebase -f qcow2 -b '' leaf.qcow2",
    "qemu-img rebase -f qcow2 -F raw -b missing top.qcow2",
    "qemu-img resize -f raw raw.img +1M",
    "qemu-img resize -f raw --shrink raw.img -512K",
    "qemu-img resize -f raw raw.img -512K",
    "qemu-img resize -qf qcow2 --preallocation=off base.qcow2 4M",
    "qemu-img resize",
    "qemu-img amend -f qcow2 -o lazy_refcounts=on base.qcow2",
    "qemu-img amend -f qcow2 -o compat=0.10 base.qcow2",
    "qemu-img commit -f qcow2 leaf.qcow2",
    "qemu-img commit -d -f qcow2 top.qcow2",
    "qemu-img commit -f qcow2 -b base.qcow2 thin.qcow2",
    "qemu-img commit -f qcow2 -b other.qcow2 leaf.qcow2",
    "qemu-img commit -f raw raw.img",
    "qemu-img bitmap --add -f qcow2 base.qcow2 b1",
    "qemu-img bitmap --remove -f qcow2 bits.qcow2 b0",
    "qemu-img bitmap --add --merge b0 -b bits.qcow2 -F qcow2 -f qcow2 top.qcow2 b1",
    "qemu-img bench -qc 10 -f raw raw.img",
    "qemu-img bench -qwc 10 --pattern=7 -f qcow2 top.qcow2",
    "qemu-img bench -qc 10 -i io_uring -f raw raw.img",
    "qemu-img --trace enable=nosuch info -f raw raw.img",
    "qemu-io -f qcow2 -c read~-q~-P~66~128k~64k leaf.qcow2",
    "qemu-io -f qcow2 -c read~-P~1~0~4k leaf.qcow2",
    "qemu-io -f raw -c write~-q~-P~90~4k~8k raw.img",
    "qemu-io -rf raw -c write~-q~-P~90~4k~8k raw.img",
    "qemu-io -sf raw -c write~-q~-P~90~4k~8k -c read~-q~-P~90~4k~8k raw.img",
    "qemu-io --image-opts driver=qcow2,file.filename=top.qcow2 -c map",
    "qemu-io -f raw -c length missing",
    "qemu-io -c help~length",
    "qemu-io -V",
    "qemu-nbd --version",
    "qemu-storage-daemon --version",
    "qemu-storage-daemon --blockdev driver=file,filename=raw.img,node-name=f --export nosuch=x --help",
];

fn words(line: &str) -> Vec<String> {
    line.split(' ').map(|word| if word == "''" { String::new() } else { word.replace('~', " ") }).collect()
}

/// What a run came to, on a host that may be too busy for qemu-img to measure how fast it derives keys of LUKS.
fn settled(run: impl Fn() -> Result<Outcome>) -> Result<Outcome> {
    const TOO_BUSY: &str = "Unable to get accurate CPU usage";
    let mut outcome = run()?;
    for _ in 0..10 {
        if !outcome.summary().contains(TOO_BUSY) {
            break;
        }
        outcome = run()?;
    }
    Ok(outcome)
}

fn compare_all(lines: impl Iterator<Item = &'static str>, as_user: bool) -> Result<()> {
    let images = Images::make()?;
    let mut different = Vec::new();
    for line in lines {
        let words = words(line);
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let (bare, confined) =
            (settled(|| images.run_bare(&words, as_user))?, settled(|| images.run_confined(&words, as_user))?);
        if bare != confined {
            different.push(format!("{line}\n  bare:     {}\n  confined: {}", bare.summary(), confined.summary()));
        }
    }
    assert!(different.is_empty(), "{} lines differ:\n{}", different.len(), different.join("\n"));
    Ok(())
}

#[test]
fn a_tool_does_the_same_under_the_broker() -> Result<()> {
    need!(Broker, Tools, Landlock);
    compare_all(LINES.iter().copied(), false)
}

#[test]
fn a_tool_does_the_same_for_an_ordinary_user() -> Result<()> {
    need!(Broker, Tools, Landlock, UserNamespaces);
    compare_all(LINES.iter().copied(), true)
}
