//! Server-sent events: lines that begin with `data:`, in which services send an answer in pieces.

/// Splits a stream of bytes into the data of events.
#[derive(Debug, Default)]
pub struct Events {
    pending: Vec<u8>,
    data: String,
}

impl Events {
    /// Takes bytes as they come, and returns the events that they complete.
    pub fn push(&mut self, bytes: &[u8]) -> Vec<String> {
        self.pending.extend_from_slice(bytes);
        let mut events = Vec::new();
        while let Some(end) = self.pending.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.pending.drain(..=end).collect();
            let line = String::from_utf8_lossy(&line[..end]).trim_end_matches('\r').to_owned();
            if line.is_empty() {
                events.extend(self.take());
            } else if let Some(data) = line.strip_prefix("data:") {
                if !self.data.is_empty() {
                    self.data.push('\n');
                }
                self.data.push_str(data.strip_prefix(' ').unwrap_or(data));
            }
            // Lines that begin with a colon keep the connection alive; other fields carry no part of an answer.
        }
        events
    }

    /// The last event, if no blank line follows it.
    pub fn end(&mut self) -> Option<String> {
        let rest = std::mem::take(&mut self.pending);
        if !rest.is_empty() {
            self.push(&rest);
            self.push(b"\n");
        }
        self.take()
    }

    fn take(&mut self) -> Option<String> {
        (!self.data.is_empty()).then(|| std::mem::take(&mut self.data))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_come_whole_wherever_the_bytes_are_cut() {
        let text = ": ping\n\ndata: {\"a\": \"é\"}\r\n\r\nevent: x\ndata: one\ndata: two\n\ndata: [DONE]";
        for size in 1..text.len() {
            let mut events = Events::default();
            let mut seen: Vec<String> = text
                .as_bytes()
                .chunks(size)
                .flat_map(|piece| events.push(piece))
                .collect();
            seen.extend(events.end());
            assert_eq!(seen, ["{\"a\": \"é\"}", "one\ntwo", "[DONE]"], "pieces of {size}");
        }
    }
}
