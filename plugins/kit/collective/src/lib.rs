//! Several processes that learn together: they add up numbers, and end together.
//!
//! [`Collective`] is what a training run asks of its peers. Two engines provide it: `tcp`, a ring over sockets that needs
//! nothing; and `mpi`, whichever MPI is installed, opened at run time.
//!
//! The decision a newcomer would question: MPI and NCCL are opened by `dlopen` and called through the few functions that
//! are needed, so that one build runs with Open MPI, MPICH, or neither.

mod alone;
mod mpi;
mod tcp;

use plugin_api::{Code, Error, Result};
use serde::{Deserialize, Serialize};

pub use alone::Alone;
pub use tcp::Ring;

/// The processes that learn together, as one of them sees them.
pub trait Collective: Send {
    /// Which of them this one is.
    fn rank(&self) -> usize;

    /// How many there are.
    fn world(&self) -> usize;

    /// Replaces each number by its sum over all processes, in an order that is fixed by rank.
    fn all_reduce(&mut self, values: &mut [f32]) -> Result<()>;

    /// Gives everyone the bytes of each, in the order of their ranks.
    fn gather(&mut self, bytes: &[u8]) -> Result<Vec<Vec<u8>>>;

    /// Gives everyone the bytes of the process `from`.
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

    /// Waits until all are here.
    fn barrier(&mut self) -> Result<()> {
        self.gather(&[]).map(drop)
    }

    /// Tells the others that this process ends, and why; they end as well.
    fn abort(&mut self, why: &str);
}

/// Which engine connects the processes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Engine {
    /// MPI where its launcher started the processes, else sockets.
    #[default]
    Auto,
    /// A ring over sockets.
    Tcp,
    /// MPI's library.
    Mpi,
    /// NVIDIA's library, between GPUs.
    Nccl,
}

/// Where the processes find one another.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Settings {
    pub engine: Engine,
    /// The machine of process 0.
    pub address: String,
    /// The first of the ports that are tried there.
    pub port: u16,
    /// What is the same for the processes of this run alone.
    pub job: String,
    /// The number of this process on its machine.
    pub local_rank: u32,
    /// An MPI launcher started the processes.
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
                return Err(error.help("start the program with the launcher of the MPI library that is opened, or choose `--collective tcp`"));
            }
            Ok(Box::new(mpi))
        }
        Engine::Nccl => Err(Error::unsupported("processes cannot be connected by `nccl` yet")
            .help("choose `--collective tcp` or `--collective mpi`")),
    }
}
