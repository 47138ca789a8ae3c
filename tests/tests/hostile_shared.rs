//! An emulator that was taken over shares a folder with its guest: it may do there what it likes, and nothing beside it.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use tests::hostile::{Answers, Scene};
use tests::{BrokerCommand, During, Result, need};

/// An ordinary user whom no other test uses.
const USER: u32 = 12_401;

/// What each attempt of `shared.c` comes to.
const SHARED: &[(&str, &str)] = &[
    ("ok", "make link-out own-mode own-mode-opened"),
    // The agent changes modes of what lies in a shared folder alone, and gives no rights of an owner.
    ("EPERM", "name-mode name-mode-beneath name-mode-read-only standard-mode own-set-id mode-by-name read-only-mode"),
    ("EPERM", "descriptor-mode-own descriptor-mode-standard descriptor-mode-empty descriptor-mode-flags"),
    ("EBADF", "own-mode-unopened own-mode-closed"),
    // Times and owners: without following links there is no way to a descriptor.
    ("EINVAL", "descriptor-time-no-follow"),
    ("ENOENT", "descriptor-time-empty descriptor-owner-no-follow"),
    ("EPERM", "descriptor-time-empty-path"),
    ("ENOTDIR", "name-time-no-follow name-owner-no-follow name-attribute-beneath"),
    // Landlock: opened by the name of a descriptor is opened anew.
    ("EACCES|EROFS", "name-read-write name-read name-write name-list up-granted"),
    // The filter: no form that reaches a descriptor's file.
    ("EPERM", "name-set-id name-set-group-id name-owner name-time name-attribute"),
    (
        "EPERM",
        "descriptor-mode descriptor-owner descriptor-time descriptor-attribute name-link descriptor-link exchange",
    ),
    // The view of what is only read, and of what is looked at by name.
    ("EROFS", "attribute-granted"),
    ("EPERM", "mode-granted"),
    // The link in /proc itself has none.
    ("EPERM|EACCES|EOPNOTSUPP|EROFS", "name-attribute-of-link"),
    // The sandbox's own tree.
    ("ENOENT", "up root through-link"),
    ("EACCES|EROFS", "make-outside folder-outside"),
    ("EXDEV|EACCES|EROFS", "move-out link-granted move-granted"),
    // The other end of a pipe, for which the kernel asks no Landlock rule (a known limit).
    ("ok", "pipe-by-name pipe-beneath-a-descriptor"),
    // Landlock, and the agent.
    ("EACCES", "device"),
    ("EPERM|EACCES", "execute"),
    ("EROFS", "read-only-make read-only-remove"),
];

/// Runs the attack and looks at what it came to and what it left.
fn attack(prepare: impl FnOnce(BrokerCommand) -> BrokerCommand) -> Result<()> {
    let scene = Scene::new()?;
    for folder in ["share", "reading"] {
        fs::create_dir(scene.workdir.path(folder)).during("make a folder to share")?;
    }
    scene.workdir.write("reading/kept", b"kept")?;
    let before = scene.workdir.listing()?;
    let mode = |name: &str| {
        fs::metadata(scene.workdir.path(name))
            .map(|status| status.permissions().mode())
            .during(format!("look at {name}"))
    };
    let image = mode("granted.qcow2")?;
    let shares = ["share,mount_tag=a", "reading,mount_tag=b,readonly=on"]
        .into_iter()
        .flat_map(|path| ["-virtfs".to_owned(), format!("local,security_model=none,path={path}")]);
    let finished = prepare(scene.command("shared").args(shares)).run()?;
    Answers::of(&finished)?.assert(SHARED);
    scene.assert_unharmed(&finished)?;
    assert_eq!(mode("granted.qcow2")?, image);
    assert_eq!(scene.workdir.listing()?, before, "nothing came or went outside the folder");
    assert_eq!(scene.workdir.read("reading/kept")?, b"kept");
    let left = fs::read_dir(scene.workdir.path("share")).during("list the folder")?;
    assert_eq!(left.count(), 2, "what it made and its link are there");
    Ok(())
}

#[test]
fn a_shared_folder_leads_nowhere_else() -> Result<()> {
    need!(Broker, UserNamespaces, Qemu, Landlock);
    attack(|command| command)
}

/// A folder that is missing changes what the filter asks about, and gives nothing.
#[test]
fn a_folder_that_is_missing_shares_nothing() -> Result<()> {
    need!(Broker, UserNamespaces, Qemu, Landlock);
    let scene = Scene::new()?;
    let share = ["-virtfs", "local,security_model=none,path=missing,mount_tag=a"];
    let finished = scene.command("modes").args(share).run()?;
    Answers::of(&finished)?.assert(&[
        ("EPERM", "image own standard standard-name"),
        ("EBADF", "nothing"),
        ("EACCES", "still-served-refused"),
        ("ok", "still-served"),
    ]);
    scene.assert_unharmed(&finished)
}

#[test]
fn nor_does_it_lead_an_ordinary_user_elsewhere() -> Result<()> {
    need!(Broker, UserNamespaces, Qemu, Landlock);
    attack(|command| command.user(USER))
}
