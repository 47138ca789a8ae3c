//! Images whose bytes an attacker wrote, each given to the emulator and to `qemu-img` under the broker: refused before
//! either of them runs, with the image, the field or name at fault and the rule in one line; and the file that they are
//! after is never opened, by anybody.

mod groups;
mod run;
mod traced;
