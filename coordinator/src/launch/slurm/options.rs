//! `--launch slurm:KEY=VALUE,…`: what a job is and how many there may be.

use std::path::PathBuf;

use crate::launch::WorkerCommand;

/// Options of Slurm that are passed on as they are. Others can be set by
/// `sbatch`'s own variables (`SBATCH_…`).
const PASSED_ON: [&str; 10] = [
    "partition",
    "account",
    "qos",
    "constraint",
    "mem",
    "reservation",
    "nodelist",
    "exclude",
    "licenses",
    "nice",
];
/// Most jobs at a time.
const MOST: u32 = 1000;

/// How batch jobs are made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Most jobs at a time; each is one worker.
    pub limit: u32,
    /// Cores of a job.
    pub cpus: u32,
    /// Time limit of a job as Slurm takes it.
    pub time: Option<String>,
    /// How its worker is started.
    pub worker: WorkerCommand,
    /// Folder for the token and the logs, seen by all nodes.
    pub folder: PathBuf,
    /// Further options of `sbatch`, `--partition=debug`.
    pub passed_on: Vec<String>,
}

impl Options {
    /// Tasks that a job computes at a time.
    pub fn slots(&self) -> u32 {
        let threads = self.worker.threads.unwrap_or(1);
        (self.worker.slots).unwrap_or((self.cpus / threads).max(1))
    }

    /// Reads them.
    ///
    /// # Errors
    /// What is wrong; all of it at once.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut options = Self {
            limit: 0,
            cpus: 1,
            time: None,
            worker: WorkerCommand::default(),
            folder: ".".into(),
            passed_on: Vec::new(),
        };
        let mut mistakes = Vec::new();
        for pair in text.split(',').map(str::trim).filter(|p| !p.is_empty()) {
            if let Err(what) = options.take(pair) {
                mistakes.push(what);
            }
        }
        if options.limit == 0 && mistakes.is_empty() {
            let what = "how many workers at most? write slurm:workers=N";
            mistakes.push(what.to_owned());
        }
        // Slurm tells the cores of a node to nobody unless it is set up to, so
        // the worker is told what its job has.
        options.worker.slots = Some(options.slots());
        if mistakes.is_empty() {
            Ok(options)
        } else {
            Err(mistakes.join("\n"))
        }
    }

    fn take(&mut self, pair: &str) -> Result<(), String> {
        let Some((key, value)) = pair.split_once('=') else {
            return Err(format!("`{pair}` is no option; write KEY=VALUE"));
        };
        if value.is_empty() {
            return Err(format!("`{key}` is empty"));
        }
        let number = |most: u32| match value.parse::<u32>() {
            Ok(n) if (1..=most).contains(&n) => Ok(n),
            _ => Err(format!("`{key}` is `{value}`, no number from 1 to {most}")),
        };
        match key {
            "workers" => self.limit = number(MOST)?,
            "cpus" => self.cpus = number(4096)?,
            "slots" => self.worker.slots = Some(number(4096)?),
            "threads" => self.worker.threads = Some(number(4096)?),
            "time" => {
                // 90, 10:00, 1:30:00, 2-00:00:00
                let time = |c: char| c.is_ascii_digit() || c == ':' || c == '-';
                if !value.chars().all(time) {
                    return Err(format!("`time` is `{value}`, no time like 01:30:00"));
                }
                self.time = Some(value.to_owned());
            }
            "worker" => self.worker.program = value.into(),
            "config" => self.worker.config = Some(value.into()),
            "folder" => self.folder = value.into(),
            key if PASSED_ON.contains(&key) => self.passed_on.push(format!("--{key}={value}")),
            _ => {
                return Err(format!(
                    "there is no option `{key}`; the options are workers, cpus, slots, threads, \
                     time, worker, config, folder, {}; sbatch takes others from its variables \
                     SBATCH_…",
                    PASSED_ON.join(", ")
                ));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_fills_its_cores_with_slots() {
        let slots = |text: &str| Options::parse(text).unwrap().slots();
        assert_eq!(slots("workers=3"), 1);
        assert_eq!(slots("workers=3,cpus=8"), 8);
        assert_eq!(slots("workers=3,cpus=8,threads=3"), 2);
        assert_eq!(slots("workers=3,cpus=2,threads=4"), 1);
        assert_eq!(slots("workers=3,cpus=8,slots=5"), 5);
    }

    #[test]
    fn what_is_slurms_goes_to_slurm() {
        let options = "workers=9, time=1-00:30:00,partition=long,mem=4G,folder=/shared/x";
        let options = Options::parse(options).unwrap();
        assert_eq!(options.limit, 9);
        assert_eq!(options.time.as_deref(), Some("1-00:30:00"));
        assert_eq!(options.passed_on, ["--partition=long", "--mem=4G"]);
        assert_eq!(options.folder.to_str(), Some("/shared/x"));
    }

    #[test]
    fn all_mistakes_are_told_at_once() {
        let error = Options::parse("workers=0,cpu=3,time=soon,fast,mem=").unwrap_err();
        for part in [
            "`workers` is `0`, no number from 1 to 1000",
            "there is no option `cpu`; the options are workers, cpus,",
            "`time` is `soon`, no time like 01:30:00",
            "`fast` is no option",
            "`mem` is empty",
        ] {
            assert!(error.contains(part), "`{part}` is missing: {error}");
        }
        assert!(Options::parse("").unwrap_err().contains("slurm:workers=N"));
    }
}
