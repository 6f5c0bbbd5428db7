//! Which of several processes this is, according to torchrun, Open MPI, MPICH or Slurm.

use crate::failure::{Failure, Result};
use serde_json::{Value, json};

/// One of several processes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Place {
    pub rank: u32,
    pub world: u32,
    pub local_rank: u32,
    /// The machine of process 0.
    pub address: String,
    pub port: u16,
    /// A value that only the processes of this run share.
    pub job: String,
    pub by_mpi: bool,
}

/// The variable by which this program's own launcher names a run.
pub const JOB: &str = "HOST_TRAIN_JOB";

/// The port for launchers that name none; torchrun has the same default.
const PORT: u16 = 29_500;

/// The place of this process, if a launcher started it as one of several.
pub fn read() -> Result<Option<Place>> {
    read_from(&|name| std::env::var(name).ok().filter(|value| !value.is_empty()))
}

fn read_from(variable: &dyn Fn(&str) -> Option<String>) -> Result<Option<Place>> {
    let number = |name: &str| -> Result<Option<u32>> {
        let Some(text) = variable(name) else { return Ok(None) };
        let wrong = |_| {
            Failure::usage(format!(
                "`{name}` is `{text}` in the environment, which is not a number"
            ))
        };
        text.trim().parse().map(Some).map_err(wrong)
    };
    let launchers = [
        ("RANK", "WORLD_SIZE", "LOCAL_RANK", false),
        (
            "OMPI_COMM_WORLD_RANK",
            "OMPI_COMM_WORLD_SIZE",
            "OMPI_COMM_WORLD_LOCAL_RANK",
            true,
        ),
        ("PMI_RANK", "PMI_SIZE", "MPI_LOCALRANKID", true),
        ("SLURM_PROCID", "SLURM_NTASKS", "SLURM_LOCALID", false),
    ];
    for (rank_name, world_name, local_name, by_mpi) in launchers {
        let (Some(rank), Some(world)) = (number(rank_name)?, number(world_name)?) else {
            continue;
        };
        if world <= 1 {
            continue;
        }
        if rank >= world {
            let message = format!("`{rank_name}` is {rank} and `{world_name}` {world} in the environment");
            return Err(Failure::usage(message).help("ranks count from 0"));
        }
        let first_host = variable("SLURM_JOB_NODELIST").map(|list| first_host(&list));
        let job_names = [
            "TORCHELASTIC_RUN_ID",
            "SLURM_JOB_ID",
            "PMIX_NAMESPACE",
            "OMPI_MCA_ess_base_jobid",
            "PMI_JOBID",
        ];
        let job = job_names
            .iter()
            .find_map(|name| variable(name))
            .unwrap_or_else(|| "host-train".to_owned());
        let token = variable(JOB).unwrap_or_default();
        let port = match variable("MASTER_PORT") {
            Some(text) => text.trim().parse().map_err(|_| {
                Failure::usage(format!(
                    "`MASTER_PORT` is `{text}` in the environment, which is not a port"
                ))
            })?,
            None => job_port(&job),
        };
        return Ok(Some(Place {
            rank,
            world,
            local_rank: number(local_name)?.unwrap_or_default(),
            address: variable("MASTER_ADDR")
                .or(first_host)
                .unwrap_or_else(|| "127.0.0.1".to_owned()),
            port,
            job: format!("{job} {token}"),
            by_mpi,
        }));
    }
    Ok(None)
}

/// Two jobs on one machine of a cluster use different ports.
fn job_port(job: &str) -> u16 {
    match job.parse::<u32>() {
        Ok(number) => 15_000 + (number % 1_000) as u16 * 20,
        Err(_) => PORT,
    }
}

/// The first machine of Slurm's list: `gpu[03-05,9],other` begins with `gpu03`.
fn first_host(list: &str) -> String {
    let end = list.find([',', '[']).unwrap_or(list.len());
    let (name, rest) = list.split_at(end);
    match rest.strip_prefix('[') {
        Some(numbers) => {
            let end = numbers.find(['-', ',', ']']).unwrap_or(numbers.len());
            format!("{name}{}", &numbers[..end])
        }
        None => name.to_owned(),
    }
}

impl Place {
    /// The settings that the plugin needs.
    pub fn to_json(&self, engine: Option<&str>) -> Value {
        json!({
            "engine": engine.unwrap_or("auto"), "address": self.address, "port": self.port, "job": self.job,
            "local_rank": self.local_rank, "by_mpi": self.by_mpi,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(variables: &[(&str, &str)], expected: Option<(u32, u32, u32, &str, bool)>) {
        let variable = |name: &str| {
            let found = variables.iter().find(|(key, _)| *key == name);
            found.map(|(_, value)| (*value).to_owned())
        };
        let place = read_from(&variable).unwrap();
        let got = place
            .as_ref()
            .map(|it| (it.rank, it.world, it.local_rank, it.address.as_str(), it.by_mpi));
        assert_eq!(got, expected);
    }

    #[test]
    fn four_launchers_are_understood() {
        check(&[], None);
        check(
            &[
                ("RANK", "1"),
                ("WORLD_SIZE", "2"),
                ("LOCAL_RANK", "1"),
                ("MASTER_ADDR", "10.0.0.1"),
                ("MASTER_PORT", "29512"),
            ],
            Some((1, 2, 1, "10.0.0.1", false)),
        );
        check(
            &[
                ("OMPI_COMM_WORLD_RANK", "0"),
                ("OMPI_COMM_WORLD_SIZE", "4"),
                ("OMPI_COMM_WORLD_LOCAL_RANK", "0"),
            ],
            Some((0, 4, 0, "127.0.0.1", true)),
        );
        check(
            &[("PMI_RANK", "3"), ("PMI_SIZE", "4"), ("MPI_LOCALRANKID", "1")],
            Some((3, 4, 1, "127.0.0.1", true)),
        );
        check(
            &[
                ("SLURM_PROCID", "5"),
                ("SLURM_NTASKS", "8"),
                ("SLURM_LOCALID", "1"),
                ("SLURM_JOB_NODELIST", "gpu[03-05,9],x"),
            ],
            Some((5, 8, 1, "gpu03", false)),
        );
        check(&[("SLURM_PROCID", "0"), ("SLURM_NTASKS", "1")], None);
    }

    #[test]
    fn what_is_no_number_is_named() {
        let variable = |name: &str| Some(if name == "RANK" { "one" } else { "2" }.to_owned());
        assert!(
            read_from(&variable)
                .unwrap_err()
                .error
                .message
                .contains("`RANK` is `one`")
        );
    }

    #[test]
    fn the_first_machine_is_found() {
        for (list, first) in [("a", "a"), ("a,b", "a"), ("n[1-2]", "n1"), ("n[07,9]", "n07")] {
            assert_eq!(first_host(list), first);
        }
    }
}
