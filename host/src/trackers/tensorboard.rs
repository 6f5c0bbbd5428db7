//! TensorBoard's event files: records with a length, two masked checksums, and an `Event` each.

use super::crc::masked_crc32c;
use super::protobuf::Message;
use super::{Tracker, now};
use std::fs::File;
use std::io::{Result, Write};
use std::path::Path;

/// The end of our files' names: a resumed run replaces its own file by one with everything that was logged.
const OURS: &str = ".host";

pub struct Events(File);

impl Events {
    pub fn create(folder: &Path) -> Result<Events> {
        std::fs::create_dir_all(folder)?;
        for entry in std::fs::read_dir(folder)?.flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if name.starts_with("events.out.tfevents.") && name.ends_with(OURS) {
                std::fs::remove_file(entry.path())?;
            }
        }
        let machine = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        let machine = Some(machine.trim())
            .filter(|name| !name.is_empty())
            .unwrap_or("localhost");
        let name = format!(
            "events.out.tfevents.{}.{machine}.{}.0{OURS}",
            now() as u64,
            std::process::id()
        );
        let mut events = Events(File::create(folder.join(name))?);
        events.write(&Message::new().double(1, now()).text(3, "brain.Event:2"))?;
        Ok(events)
    }

    fn write(&mut self, event: &Message) -> Result<()> {
        let data = event.encoded();
        let length = (data.len() as u64).to_le_bytes();
        let parts = [
            &length[..],
            &masked_crc32c(&length).to_le_bytes(),
            data,
            &masked_crc32c(data).to_le_bytes(),
        ];
        self.0.write_all(&parts.concat())
    }
}

impl Tracker for Events {
    fn add(&mut self, step: u64, entry: &[(String, f64)]) -> Result<()> {
        let mut summary = Message::new();
        for (name, value) in entry.iter().filter(|(name, _)| name != "train/global_step") {
            summary = summary.message(1, &Message::new().text(1, name).float(2, *value as f32));
        }
        self.write(&Message::new().double(1, now()).int(2, step).message(5, &summary))
    }

    fn finish(&mut self, _whole: bool) -> Result<Option<String>> {
        self.0.sync_all()?;
        Ok(None)
    }
}
