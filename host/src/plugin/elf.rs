//! Reads what a shared library's file says about itself, without running any of it.
//!
//! The file is untrusted: reads go through a cache that fetches only the needed pieces, and everything that a file can
//! repeat without end is limited, so that a hostile file costs neither time nor memory beyond its own size.

use crate::failure::{Failure, Result};
use object::elf::{self, FileHeader64};
use object::read::elf::{FileHeader, SectionHeader, SectionTable, Sym};
use object::{Endianness, ReadCache, ReadRef};
use std::collections::BTreeSet;
use std::fs::File;
use std::path::Path;

/// The longest note that is read: room for thousands of adapters.
const MOST_NOTE_BYTES: u64 = 1 << 20;
const MOST_SECTIONS: usize = 4096;

#[cfg(target_arch = "x86_64")]
const OUR_MACHINE: elf::Machine = elf::EM_X86_64;
#[cfg(target_arch = "aarch64")]
const OUR_MACHINE: elf::Machine = elf::EM_AARCH64;

/// What was found in a library's file.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Look {
    /// The bytes of the note's section, when there is one.
    pub note: Option<Vec<u8>>,
    /// Symbols that other libraries can bind to.
    pub exports: usize,
    /// The libraries it is linked to.
    pub needs: Vec<String>,
    /// The versions of the C library it was linked against: `GLIBC_2.34`.
    pub glibc: BTreeSet<String>,
}

type Header = FileHeader64<Endianness>;

/// Looks into a library.
pub fn look(file: &File, path: &Path) -> Result<Look> {
    let cache = ReadCache::new(file);
    look_at(&cache).map_err(|why| {
        Failure::refused(format!("`{}` is not a shared library for this machine", path.display()))
            .cause(why)
            .help("a plugin is a crate with `crate-type = [\"cdylib\"]`; name the `.so` file that cargo made of it")
    })
}

fn look_at<'data, R: ReadRef<'data>>(data: R) -> std::result::Result<Look, String> {
    let broken = |why: object::Error| format!("it is damaged: {why}");
    let magic = data.read_bytes_at(0, 4).map_err(|()| "it has less than four bytes")?;
    if magic != elf::ELFMAG {
        return Err("it is not an ELF file".to_owned());
    }
    let header = Header::parse(data).map_err(|_| "it is not a 64-bit ELF file".to_owned())?;
    let endian = header.endian().map_err(broken)?;
    if header.e_machine(endian) != OUR_MACHINE {
        return Err("it was built for another kind of processor".to_owned());
    }
    if header.e_type(endian) != elf::ET_DYN {
        return Err("it is an ELF file, but not a shared library".to_owned());
    }
    let sections = header.sections(endian, data).map_err(broken)?;
    if sections.len() > MOST_SECTIONS {
        return Err(format!("it has {} sections, more than {MOST_SECTIONS}", sections.len()));
    }
    Ok(Look {
        note: note(&sections, endian, data)?,
        exports: exports(&sections, endian, data).map_err(broken)?,
        needs: needs(&sections, endian, data).map_err(broken)?,
        glibc: glibc_needed(&sections, endian, data).map_err(broken)?,
    })
}

fn note<'data, R: ReadRef<'data>>(
    sections: &SectionTable<'data, Header, R>,
    endian: Endianness,
    data: R,
) -> std::result::Result<Option<Vec<u8>>, String> {
    let name = plugin_api::NOTE_SECTION.as_bytes();
    let Some((_, section)) = sections.section_by_name(endian, name) else {
        return Ok(None);
    };
    let size = section.sh_size(endian);
    if size > MOST_NOTE_BYTES {
        return Err(format!("its note has {size} bytes, more than {MOST_NOTE_BYTES}"));
    }
    let bytes = section.data(endian, data);
    bytes
        .map(|bytes| Some(bytes.to_vec()))
        .map_err(|why| format!("its note lies outside of the file: {why}"))
}

fn exports<'data, R: ReadRef<'data>>(
    sections: &SectionTable<'data, Header, R>,
    endian: Endianness,
    data: R,
) -> object::Result<usize> {
    let symbols = sections.symbols(endian, data, elf::SHT_DYNSYM)?;
    let exported = |symbol: &&elf::Sym64<Endianness>| !symbol.is_undefined(endian) && !symbol.is_local();
    Ok(symbols.iter().filter(exported).count())
}

fn needs<'data, R: ReadRef<'data>>(
    sections: &SectionTable<'data, Header, R>,
    endian: Endianness,
    data: R,
) -> object::Result<Vec<String>> {
    let table = sections.dynamic_table(endian, data)?;
    let libraries = table.iter().filter(|entry| entry.tag == elf::DT_NEEDED).take(256);
    libraries.map(|entry| table.string(entry).map(text)).collect()
}

fn glibc_needed<'data, R: ReadRef<'data>>(
    sections: &SectionTable<'data, Header, R>,
    endian: Endianness,
    data: R,
) -> object::Result<BTreeSet<String>> {
    let mut found = BTreeSet::new();
    let Some((needs, link)) = sections.gnu_verneed(endian, data)? else {
        return Ok(found);
    };
    let strings = sections.strings(endian, data, link)?;
    for need in needs.take(64) {
        for version in need?.1.take(256) {
            let name = text(version?.name(endian, strings)?);
            if name.starts_with("GLIBC_") {
                found.insert(name);
            }
        }
    }
    Ok(found)
}

/// The versions that a C library offers, from its own file.
pub fn glibc_offered(file: &File) -> Option<BTreeSet<String>> {
    let cache = ReadCache::new(file);
    let data = &cache;
    let header = Header::parse(data).ok()?;
    let endian = header.endian().ok()?;
    let sections = header.sections(endian, data).ok()?;
    let (definitions, link) = sections.gnu_verdef(endian, data).ok()??;
    let strings = sections.strings(endian, data, link).ok()?;
    let mut found = BTreeSet::new();
    for definition in definitions.take(1024) {
        if let Some(Ok(name)) = definition.ok()?.1.next().transpose() {
            found.insert(text(name.name(endian, strings).ok()?));
        }
    }
    Some(found)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
