//! Two checksums: zlib's CRC-32 and Castagnoli's. Log lines are few and short, so going bit by bit is fast enough.

const fn table(polynomial: u32) -> [u32; 256] {
    let mut table = [0; 256];
    let mut index = 0;
    while index < 256 {
        let (mut value, mut bit) = (index as u32, 0);
        while bit < 8 {
            value = if value & 1 == 1 {
                (value >> 1) ^ polynomial
            } else {
                value >> 1
            };
            bit += 1;
        }
        table[index] = value;
        index += 1;
    }
    table
}

static ZLIB: [u32; 256] = table(0xedb8_8320);
static CASTAGNOLI: [u32; 256] = table(0x82f6_3b78);

fn crc(table: &[u32; 256], parts: &[&[u8]]) -> u32 {
    let bytes = parts.iter().flat_map(|part| part.iter());
    !bytes.fold(!0, |crc: u32, byte| {
        (crc >> 8) ^ table[((crc ^ u32::from(*byte)) & 0xff) as usize]
    })
}

/// zlib's checksum of these pieces in a row.
pub fn crc32(parts: &[&[u8]]) -> u32 {
    crc(&ZLIB, parts)
}

/// Castagnoli's checksum, masked as in TensorFlow's records.
pub fn masked_crc32c(bytes: &[u8]) -> u32 {
    crc(&CASTAGNOLI, &[bytes]).rotate_right(15).wrapping_add(0xa282_ead8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksums_of_the_standard_text() {
        assert_eq!(crc32(&[b"12345", b"6789"]), 0xcbf4_3926);
        assert_eq!(crc(&CASTAGNOLI, &[b"123456789"]), 0xe306_9283);
    }
}
