//! The guest's memory and screen are written to files.

use serde_json::json;
use tests::ORDINARY_USER;
use tests::parity::{Operation, Variant};

use crate::PLAIN;

const DRIVE: Variant = Variant::DRIVE;

parity! {
    memory: MEMORY, DRIVE;
    memory_to_a_relative_name: MEMORY, Variant::RELATIVE;
    screen: SCREEN, DRIVE;
    screen_twice: SCREEN_TWICE, DRIVE;
    physical_memory: PHYSICAL, DRIVE;
    physical_memory_of_a_user: PHYSICAL, Variant { user: Some(ORDINARY_USER), ..DRIVE };
    virtual_memory: VIRTUAL, Variant { folder: "a,b c é", ..DRIVE };
}

const CREATE: Operation = Operation { options: "--allow create=DIR", ..PLAIN };

const MEMORY: Operation = Operation {
    row: "`dump-guest-memory`",
    script: |guest| {
        let file = format!("file:{}", guest.name("memory"));
        guest.qmp("dump-guest-memory", json!({ "paging": false, "protocol": file })).map(drop)
    },
    ..CREATE
};

const SCREEN: Operation = Operation {
    row: "`screendump` (PPM, PNG)",
    arguments: &["-vga", "std"],
    script: |guest| {
        for format in ["ppm", "png"] {
            let name = guest.name(format);
            guest.qmp("screendump", json!({ "filename": name, "format": format }))?;
        }
        Ok(())
    },
    ..CREATE
};

const SCREEN_TWICE: Operation = Operation {
    row: "`screendump` over a file that the guest has made before",
    script: |guest| {
        let name = guest.name("screen");
        for _ in 0..2 {
            guest.qmp("screendump", json!({ "filename": name }))?;
        }
        Ok(())
    },
    ..SCREEN
};

const PHYSICAL: Operation = Operation {
    row: "`pmemsave`",
    script: |guest| {
        let name = guest.name("memory");
        guest.qmp("pmemsave", json!({ "val": 0xf_0000, "size": 0x1_0000, "filename": name })).map(drop)
    },
    ..CREATE
};

const VIRTUAL: Operation = Operation {
    row: "`memsave`",
    script: |guest| {
        let name = guest.name("memory");
        guest.qmp("memsave", json!({ "val": 0xf_0000, "size": 0x1_0000, "filename": name })).map(drop)
    },
    ..CREATE
};
