//! MPI, opened at run time. Open MPI and MPICH have the same functions but different handles: addresses of symbols in
//! Open MPI, numbers in MPICH. A symbol that only Open MPI has tells which library it is.
//!
//! `unsafe` stands here because functions of a library are called by their names. Each is declared as `mpi.h` has it;
//! a handle is passed as a machine word; a function that takes an `int` reads its lower half.
#![allow(unsafe_code)]

use crate::Collective;
use libloading::os::unix::{Library, RTLD_GLOBAL, RTLD_NOW, Symbol};
use plugin_api::{Code, Error, Result};
use std::ffi::{c_int, c_void};
use std::ptr::{null, null_mut};
use std::time::Duration;

const OPEN_MPI: [&str; 2] = ["libmpi.so.40", "libmpi.so"];
const MPICH: [&str; 3] = ["libmpi.so.12", "libmpich.so.12", "libmpich.so"];

type Handle = usize;
type Init = unsafe extern "C" fn(*mut c_int, *mut c_void) -> c_int;
type Flag = unsafe extern "C" fn(*mut c_int) -> c_int;
type OfComm = unsafe extern "C" fn(Handle, *mut c_int) -> c_int;
type AllReduce = unsafe extern "C" fn(*const c_void, *mut c_void, c_int, Handle, Handle, Handle) -> c_int;
type AllGather = unsafe extern "C" fn(*const c_void, c_int, Handle, *mut c_void, c_int, Handle, Handle) -> c_int;
type AllGatherV = unsafe extern "C" fn(
    *const c_void,
    c_int,
    Handle,
    *mut c_void,
    *const c_int,
    *const c_int,
    Handle,
    Handle,
) -> c_int;
type Abort = unsafe extern "C" fn(Handle, c_int) -> c_int;
type Finalize = unsafe extern "C" fn() -> c_int;

/// How long a failing process waits before it ends, after which the launcher ends the others.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// What differs between the two libraries.
struct Handles {
    world: Handle,
    float: Handle,
    byte: Handle,
    sum: Handle,
    in_place: *const c_void,
}

pub struct Mpi {
    handles: Handles,
    all_reduce: Symbol<AllReduce>,
    all_gather: Symbol<AllGather>,
    all_gather_v: Symbol<AllGatherV>,
    abort: Symbol<Abort>,
    finalize: Symbol<Finalize>,
    rank: usize,
    world: usize,
    failed: bool,
    // Never closed: MPI leaves threads and exit handlers behind.
    _library: std::mem::ManuallyDrop<Library>,
}

// SAFETY: MPI is called from one thread at a time, the one that holds this value by `&mut`; the pointer is only
// compared, never followed.
unsafe impl Send for Mpi {}

impl Mpi {
    /// Opens the library and joins the processes of this launch.
    pub fn open() -> Result<Mpi> {
        // If both are installed, use the one whose launcher started this process.
        let by_open_mpi = std::env::var_os("OMPI_COMM_WORLD_RANK").is_some();
        let (first, then) = match by_open_mpi {
            true => (&OPEN_MPI[..], &MPICH[..]),
            false => (&MPICH[..], &OPEN_MPI[..]),
        };
        let mut tried = Vec::new();
        for name in first.iter().chain(then) {
            // SAFETY: loading runs the library's constructors, which is what a user who starts under MPI asks for. Open
            // MPI's own plugins need its symbols to be global.
            match unsafe { Library::open(Some(*name), RTLD_NOW | RTLD_GLOBAL) } {
                Ok(library) => return Mpi::join(library),
                Err(why) => tried.push(why.to_string()),
            }
        }
        let error = Error::new(Code::MISSING, "MPI's library cannot be opened");
        let error = tried.into_iter().take(2).fold(error, Error::cause);
        Err(error.help("install Open MPI or MPICH, name its folder in LD_LIBRARY_PATH, or choose `--collective tcp`"))
    }

    fn join(library: Library) -> Result<Mpi> {
        let handles = Handles::of(&library);
        // SAFETY: the types are those of `mpi.h`.
        let mpi = unsafe {
            let init: Symbol<Init> = library.get(b"MPI_Init\0")?;
            let initialized: Symbol<Flag> = library.get(b"MPI_Initialized\0")?;
            let comm_rank: Symbol<OfComm> = library.get(b"MPI_Comm_rank\0")?;
            let comm_size: Symbol<OfComm> = library.get(b"MPI_Comm_size\0")?;
            let (mut there, mut rank, mut world) = (0, 0, 0);
            checked("MPI_Initialized", initialized(&mut there))?;
            if there == 0 {
                checked("MPI_Init", init(null_mut(), null_mut()))?;
            }
            checked("MPI_Comm_rank", comm_rank(handles.world, &mut rank))?;
            checked("MPI_Comm_size", comm_size(handles.world, &mut world))?;
            Mpi {
                all_reduce: library.get(b"MPI_Allreduce\0")?,
                all_gather: library.get(b"MPI_Allgather\0")?,
                all_gather_v: library.get(b"MPI_Allgatherv\0")?,
                abort: library.get(b"MPI_Abort\0")?,
                finalize: library.get(b"MPI_Finalize\0")?,
                handles,
                rank: rank as usize,
                world: world as usize,
                failed: false,
                _library: std::mem::ManuallyDrop::new(library),
            }
        };
        Ok(mpi)
    }
}

impl Handles {
    fn of(library: &Library) -> Handles {
        // SAFETY: only the addresses of these objects are used, which are the handles.
        let address = |name: &[u8]| {
            unsafe { library.get::<*const c_void>(name) }
                .ok()
                .map(|symbol| symbol.into_raw() as usize)
        };
        let open_mpi = [
            &b"ompi_mpi_comm_world\0"[..],
            b"ompi_mpi_float\0",
            b"ompi_mpi_byte\0",
            b"ompi_mpi_op_sum\0",
        ]
        .map(address);
        match open_mpi {
            [Some(world), Some(float), Some(byte), Some(sum)] => Handles {
                world,
                float,
                byte,
                sum,
                in_place: null::<c_void>().wrapping_byte_add(1),
            },
            _ => Handles {
                world: 0x4400_0000,
                float: 0x4c00_040a,
                byte: 0x4c00_010d,
                sum: 0x5800_0003,
                in_place: null::<c_void>().wrapping_byte_sub(1),
            },
        }
    }
}

fn checked(what: &str, code: c_int) -> Result<()> {
    match code {
        0 => Ok(()),
        code => Err(Error::new(Code::SERVICE, format!("`{what}` failed with {code}"))),
    }
}

/// MPI's counts are `int`.
const AT_ONCE: usize = 1 << 30;

impl Collective for Mpi {
    fn rank(&self) -> usize {
        self.rank
    }

    fn world(&self) -> usize {
        self.world
    }

    fn all_reduce(&mut self, values: &mut [f32]) -> Result<()> {
        let Handles {
            world,
            float,
            sum,
            in_place,
            ..
        } = self.handles;
        for some in values.chunks_mut(AT_ONCE) {
            let (to, count) = (some.as_mut_ptr().cast(), some.len() as c_int);
            // SAFETY: `to` is valid for `count` floats, and stays so for the call, which returns when it is done.
            checked("MPI_Allreduce", unsafe {
                (self.all_reduce)(in_place, to, count, float, sum, world)
            })?;
        }
        Ok(())
    }

    fn gather(&mut self, bytes: &[u8]) -> Result<Vec<Vec<u8>>> {
        let Handles { world, byte, .. } = self.handles;
        let mine = (bytes.len() as u64).to_le_bytes();
        let mut lengths = vec![[0_u8; 8]; self.world];
        // SAFETY: the receiver has eight bytes for each process.
        checked("MPI_Allgather", unsafe {
            (self.all_gather)(
                mine.as_ptr().cast(),
                8,
                byte,
                lengths.as_mut_ptr().cast(),
                8,
                byte,
                world,
            )
        })?;
        let lengths: Vec<usize> = lengths
            .iter()
            .map(|length| u64::from_le_bytes(*length) as usize)
            .collect();
        let total: usize = lengths.iter().sum();
        if total > AT_ONCE {
            return Err(Error::msg(format!("{total} bytes are too many to gather at once")));
        }
        let counts: Vec<c_int> = lengths.iter().map(|length| *length as c_int).collect();
        let starts = lengths.iter().scan(0, |at, length| {
            let start = *at;
            *at += length;
            Some(start as c_int)
        });
        let starts: Vec<c_int> = starts.collect();
        if total == 0 {
            return Ok(vec![Vec::new(); self.world]); // every process knows that there is nothing to gather
        }
        let mut all = vec![0_u8; total];
        // The pointer of an empty slice is 1, which Open MPI reads as its mark for "in place".
        let mine = if bytes.is_empty() { &[0][..] } else { bytes };
        // SAFETY: the receiver has room for all lengths, at the places that `starts` names.
        checked("MPI_Allgatherv", unsafe {
            (self.all_gather_v)(
                mine.as_ptr().cast(),
                bytes.len() as c_int,
                byte,
                all.as_mut_ptr().cast(),
                counts.as_ptr(),
                starts.as_ptr(),
                byte,
                world,
            )
        })?;
        let mut rest = all.as_slice();
        let parts = lengths.iter().map(|length| {
            let (part, more) = rest.split_at(*length);
            rest = more;
            part.to_vec()
        });
        Ok(parts.collect())
    }

    fn abort(&mut self, why: &str) {
        plugin_api::log(
            plugin_api::Level::Error,
            &format!("process {} failed: {why}", self.rank),
        );
        self.failed = true;
        let (abort, world) = (*self.abort, self.handles.world);
        std::thread::spawn(move || {
            std::thread::sleep(LAST_WORDS);
            // SAFETY: the library is never closed, and the thread that called MPI has ended or is done with it. The
            // call ends all processes of the launch, this one included.
            unsafe { abort(world, 4) }
        });
    }
}

impl Drop for Mpi {
    fn drop(&mut self) {
        // After a failure the others do not come here, so finalising would wait for ever.
        if !self.failed {
            // SAFETY: the last call to MPI in this process.
            unsafe { (self.finalize)() };
        }
    }
}
