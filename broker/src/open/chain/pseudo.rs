//! `json:{...}` names: options of block drivers in the place of a name. QEMU itself writes such a name where a plain
//! one cannot say what lies below. Of all that they can say, one thing is served: a format over a file.

use std::ffi::OsString;

use serde::Deserialize;

use super::name::Error;

/// What such a name says.
#[derive(Debug, PartialEq, Eq)]
pub struct Pseudo {
    /// What QEMU opens: literally, from the working directory.
    pub name: OsString,
    /// The format that is stated with it.
    pub format: String,
}

/// A node of the block graph, with the keys that are served and no others.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Node {
    driver: String,
    filename: Option<String>,
    file: Option<Box<Node>>,
    #[serde(rename = "file.driver")]
    file_driver: Option<String>,
    #[serde(rename = "file.filename")]
    file_name: Option<String>,
}

/// Reads `name`, if it is such a name.
///
/// # Errors
/// [`Error::Json`]: it says anything else.
pub fn read(name: &[u8]) -> Result<Option<Pseudo>, Error> {
    let Some(text) = name.strip_prefix(b"json:") else { return Ok(None) };
    let node: Node = serde_json::from_slice(text).map_err(|_| Error::Json)?;
    match node {
        // Without a format above it, a file is what it is.
        Node { driver, filename: Some(name), file: None, file_driver: None, file_name: None } if driver == "file" => {
            Ok(Some(Pseudo { name: name.into(), format: "raw".to_owned() }))
        }
        Node { driver, filename: None, file: Some(file), file_driver: None, file_name: None } => match *file {
            Node { driver: below, filename: Some(name), file: None, file_driver: None, file_name: None }
                if below == "file" =>
            {
                Ok(Some(Pseudo { name: name.into(), format: driver }))
            }
            _ => Err(Error::Json),
        },
        Node { driver, filename: None, file: None, file_driver: Some(below), file_name: Some(name) }
            if below == "file" =>
        {
            Ok(Some(Pseudo { name: name.into(), format: driver }))
        }
        _ => Err(Error::Json),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_format_over_a_file_is_understood() {
        for (text, name, format) in [
            (r#"json:{"driver":"qcow2","file":{"driver":"file","filename":"/x/base"}}"#, "/x/base", "qcow2"),
            (r#"json:{"driver":"raw","file.driver":"file","file.filename":"a:b"}"#, "a:b", "raw"),
            (r#"json:{"driver":"file","filename":"base"}"#, "base", "raw"),
        ] {
            let pseudo = Pseudo { name: name.into(), format: format.to_owned() };
            assert_eq!(read(text.as_bytes()), Ok(Some(pseudo)), "{text}");
        }
        assert_eq!(read(b"base.qcow2"), Ok(None));
    }

    #[test]
    fn everything_else_is_refused() {
        for text in [
            "json:",
            "json:{}",
            "json:{'driver':'file','filename':'x'}",
            r#"json:{"driver":"nbd","host":"h"}"#,
            r#"json:{"driver":"raw","file":{"driver":"host_device","filename":"/dev/sda"}}"#,
            r#"json:{"driver":"raw","file":{"driver":"file","filename":"x"},"offset":512}"#,
            r#"json:{"driver":"qcow2","file":{"driver":"file","filename":"x"},"backing":{"driver":"file","filename":"y"}}"#,
            r#"json:{"driver":"qcow2","file":"node0"}"#,
            r#"json:{"driver":"raw","file":{"driver":"raw","file":{"driver":"file","filename":"x"}}}"#,
            r#"json:{"driver":"raw","driver":"qcow2","file":{"driver":"file","filename":"x"}}"#,
            r#"json:{"driver":"qcow2","file":{"driver":"file","filename":"x"},"data-file":{"driver":"file","filename":"y"}}"#,
        ] {
            assert_eq!(read(text.as_bytes()), Err(Error::Json), "{text}");
        }
    }
}
