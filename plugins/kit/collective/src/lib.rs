//! Connects the processes of a training run: they sum numbers, and end together.
//!
//! [`Collective`] is what a training run asks of its peers. Two engines provide it: `tcp`, a ring over sockets, which
//! needs no library; and `mpi`, which opens the installed MPI at run time.
//!
//! The decision a newcomer would question: MPI is opened by `dlopen`, so that one build runs with Open MPI, MPICH, or
//! neither.

mod alone;
mod mpi;
mod tcp;

use plugin_api::{Code, Error, Result};
use serde::{Deserialize, Serialize};

pub use alone::Alone;
pub use tcp::Ring;

/// The processes of a run, as one of them sees them.
pub trait Collective: Send {
    /// The number of this process.
    fn rank(&self) -> usize;

    /// How many processes there are.
    fn world(&self) -> usize;

    /// Replaces each number by its sum over all processes, in an order that is fixed by rank.
    fn all_reduce(&mut self, values: &mut [f32]) -> Result<()>;

    /// Gives every process the bytes of each, in the order of their ranks.
    fn gather(&mut self, bytes: &[u8]) -> Result<Vec<Vec<u8>>>;

    /// Gives every process the bytes of the process `from`.
    fn broadcast(&mut self, bytes: &mut Vec<u8>, from: usize) -> Result<()> {
        let mine = if self.rank() == from {
            std::mem::take(bytes)
        } else {
            Vec::new()
        };
        let mut all = self.gather(&mine)?;
        *bytes = all.swap_remove(from);
        Ok(())
    }

    /// Waits until all processes are here.
    fn barrier(&mut self) -> Result<()> {
        self.gather(&[]).map(drop)
    }

    /// Tells the other processes that this one ends, and why; they end as well.
    fn abort(&mut self, why: &str);
}

/// What connects the processes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Engine {
    /// MPI if its launcher started the processes, else sockets.
    #[default]
    Auto,
    /// A ring over sockets.
    Tcp,
    /// MPI's library.
    Mpi,
    /// NVIDIA's library for GPUs; not supported yet.
    Nccl,
}

/// Where the processes find each other.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Settings {
    pub engine: Engine,
    /// The machine of process 0.
    pub address: String,
    /// The first of the ports that are tried there.
    pub port: u16,
    /// A text that only the processes of this run share.
    pub job: String,
    /// The number of this process on its machine.
    pub local_rank: u32,
    /// Whether an MPI launcher started the processes.
    pub by_mpi: bool,
}

/// Connects this process with the others.
pub fn connect(settings: &Settings, rank: usize, world: usize) -> Result<Box<dyn Collective>> {
    if world <= 1 {
        return Ok(Box::new(Alone));
    }
    let tcp = || Ring::connect(settings, rank, world).map(|ring| Box::new(ring) as Box<dyn Collective>);
    match settings.engine {
        Engine::Tcp => tcp(),
        Engine::Auto if !settings.by_mpi => tcp(),
        Engine::Auto | Engine::Mpi => {
            let mpi = mpi::Mpi::open()?;
            if (mpi.rank(), mpi.world()) != (rank, world) {
                let (theirs, of) = (mpi.rank(), mpi.world());
                let message =
                    format!("MPI says that this is process {theirs} of {of}, the environment {rank} of {world}");
                let error = Error::new(Code::SETTINGS, message);
                return Err(
                    error.help("start the program with the launcher of this MPI library, or choose `--collective tcp`")
                );
            }
            Ok(Box::new(mpi))
        }
        Engine::Nccl => Err(Error::unsupported("processes cannot be connected by `nccl` yet")
            .help("choose `--collective tcp` or `--collective mpi`")),
    }
}
