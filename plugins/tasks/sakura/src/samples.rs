//! The questions: the tracks' files, their rows, and the places of clips.

use crate::question::{Hop, Question, Track, clip_name, is_pair};
use data::{Part, Row, Rows};
use plugin_api::{ClipSource, Code, Error, Result, Settings};
use std::path::{Path, PathBuf};

/// The folders within a track's, the repository's or the user's folder in which clips are published.
fn folders(track: Option<Track>) -> Vec<String> {
    let mut folders = vec![String::new(), "audio".to_owned()];
    if let Some(track) = track {
        folders.extend([
            format!("{}/audio", track.folder()),
            format!("data/{}/audio", track.folder()),
        ]);
    }
    folders
}

/// The rows of one track, or of a manifest.
struct Source {
    rows: Rows,
    /// The track, if the file or folder says it; otherwise each row does.
    track: Option<Track>,
    roots: Vec<PathBuf>,
}

/// The questions of a run.
pub(crate) struct Samples {
    sources: Vec<Source>,
    /// A source, a row in it, and which of the row's questions.
    places: Vec<(usize, usize, Option<Hop>)>,
}

/// One question as it was found.
pub(crate) struct Found {
    pub row: Row,
    pub track: Option<Track>,
    pub hop: Option<Hop>,
    pub question: Question,
    /// The clip's file name after its track, which the questions about one clip share.
    pub clip: String,
    /// None when it is missing.
    pub sound: Option<ClipSource>,
}

impl Samples {
    pub fn load(settings: &Settings) -> Result<Samples> {
        let word = |name: &str, all: &str| -> Result<Option<String>> {
            Ok(settings.get::<String>(name)?.filter(|word| word != all))
        };
        let track = word("track", "all")?.as_deref().and_then(Track::from_word);
        let hop = word("hop", "both")?.as_deref().and_then(Hop::from_word);
        let given: Option<PathBuf> = settings.get("data_root")?;
        if let Some(folder) = given.as_ref().filter(|folder| !folder.is_dir()) {
            let message = format!("setting `data_root`: `{}` is not a folder", folder.display());
            return Err(Error::new(Code::MISSING, message));
        }
        let paths = paths(settings)?;
        let mut sources = Vec::new();
        for path in &paths {
            sources.extend(sources_in(path, given.as_deref())?);
        }
        sources.retain(|source: &Source| track.is_none() || source.track.is_none() || source.track == track);
        let mut samples = Samples {
            sources,
            places: Vec::new(),
        };
        samples.find_places(track, hop);
        if samples.places.is_empty() {
            let shown: Vec<_> = paths.iter().map(|path| format!("`{}`", path.display())).collect();
            let of = track.map_or("questions".to_owned(), |track| {
                format!("questions of track `{}`", track.word())
            });
            return Err(Error::new(Code::DATA, format!("{} holds no {of}", shown.join(", "))));
        }
        if settings.or("strict_audio_missing", false)? {
            samples.all_there()?;
        }
        Ok(samples)
    }

    fn find_places(&mut self, track: Option<Track>, hop: Option<Hop>) {
        let wanted = |own: Option<Hop>| hop.is_none() || own.is_none() || hop == own;
        for (number, source) in self.sources.iter().enumerate() {
            // A track's file is not read completely here: on the hub it contains the audio as well.
            let paired = source.track.is_some() && source.rows.get(0).is_ok_and(|row| is_pair(&row));
            for index in 0..source.rows.len() {
                let row = if paired { None } else { source.rows.get(index).ok() };
                let elsewhere = row
                    .as_ref()
                    .and_then(Track::of_row)
                    .is_some_and(|own| track.is_some_and(|track| track != own));
                let hops = match &row {
                    _ if elsewhere => Vec::new(),
                    Some(row) if !is_pair(row) => vec![Hop::of_row(row)],
                    // A broken row is a sample as well; its error says what is wrong.
                    None if !paired => vec![None],
                    _ => Hop::ALL.map(Some).to_vec(),
                };
                let hops = hops.into_iter().filter(|own| wanted(*own));
                self.places.extend(hops.map(|hop| (number, index, hop)));
            }
        }
    }

    /// An error with the number of missing clips.
    fn all_there(&self) -> Result<()> {
        let mut missing = (0..self.len())
            .filter_map(|index| self.get(index).ok())
            .filter(|found| found.sound.is_none());
        let Some(first) = missing.next() else { return Ok(()) };
        let message = format!(
            "the clips of {} of {} questions are missing, the first is that of {}",
            1 + missing.count(),
            self.len(),
            first.row.place
        );
        Err(missing_clip(message))
    }

    pub fn len(&self) -> usize {
        self.places.len()
    }

    pub fn get(&self, index: usize) -> Result<Found> {
        let Some(&(number, place, hop)) = self.places.get(index) else {
            let message = format!(
                "there is no sample {}, there are {}",
                index.saturating_add(1),
                self.len()
            );
            return Err(Error::new(Code::DATA, message));
        };
        let source = &self.sources[number];
        let row = source.rows.get(place)?;
        let track = source.track.or_else(|| Track::of_row(&row));
        let question = Question::read(&row, hop)?;
        let name = clip_name(&row);
        let file = name.map(|name| name.rsplit('/').next().unwrap_or(name).to_owned());
        let clip = file.unwrap_or_else(|| format!("row-{}", place + 1));
        Ok(Found {
            sound: sound(&row, name, track, &source.roots),
            clip: match track {
                Some(track) => format!("{}/{clip}", track.word()),
                None => clip,
            },
            track,
            hop,
            question,
            row,
        })
    }
}

/// The clip inside the row, or the file that the row names.
fn sound(row: &Row, name: Option<&str>, track: Option<Track>, roots: &[PathBuf]) -> Option<ClipSource> {
    let blob = row.at("audio.bytes.blob").or_else(|| row.at("audio.blob"));
    let blob = blob.and_then(|blob| usize::try_from(blob.as_u64()?).ok());
    if blob.is_some_and(|blob| blob < row.blobs.len()) {
        return Some(ClipSource {
            blob,
            ..ClipSource::default()
        });
    }
    let name = name?;
    let places: Vec<PathBuf> = roots
        .iter()
        .flat_map(|root| folders(track).into_iter().map(move |folder| root.join(folder)))
        .collect();
    // Manifests of the repository give paths from its root; without it, the file's name must suffice.
    let bare = name.rsplit('/').next().unwrap_or(name);
    let found = data::sound_beside(&places, name).or_else(|| data::sound_beside(&places, bare));
    found.map(ClipSource::file)
}

/// An error of a clip that is not there.
pub(crate) fn missing_clip(message: String) -> Error {
    Error::new(Code::MISSING, message).help("name the folder that clips are named from with `-T data_root=PATH`")
}

/// The sources in a file or folder: a manifest, the tracks in their layouts, or one track that only its rows name.
fn sources_in(path: &Path, given: Option<&Path>) -> Result<Vec<Source>> {
    let above = path.parent().unwrap_or(path);
    let source = |files: Vec<PathBuf>, track: Option<Track>| -> Result<Source> {
        let folder = files.first().and_then(|file| file.parent()).unwrap_or(path);
        let near = folder.ancestors().take(3).take_while(|near| near.starts_with(above));
        let roots = match given {
            Some(given) => vec![given.to_owned()],
            None => near.map(Path::to_owned).collect(),
        };
        let rows = Rows::open_all(files)?;
        let said = || Track::of_row(&rows.get(0).ok().filter(is_pair)?);
        Ok(Source {
            track: track.or_else(said),
            roots,
            rows,
        })
    };
    if path.is_file() {
        return Ok(vec![source(vec![path.to_owned()], None)?]);
    }
    let mut sources = Vec::new();
    for track in Track::ALL {
        let published = (track.folder(), "metadata");
        let hub = (track.hub_name(), "test");
        if let Some(files) = find(path, published)?.or(find(path, hub)?) {
            sources.push(source(files, Some(track))?);
        }
    }
    if !sources.is_empty() {
        return Ok(sources);
    }
    let part = |split| Part { subset: None, split };
    match data::find(path, part(&["test", "metadata"])) {
        Ok(files) => Ok(vec![source(files, None)?]),
        Err(error) if error.help.is_none() || error.code == Code::MISSING => Err(error.help(
            "give the repository, its `data` folder, a track's folder, a data set of the hub or a manifest with `-T data=PATH`",
        )),
        Err(error) => Err(error),
    }
}

/// The files of a track, if they are there.
fn find(folder: &Path, (subset, split): (&str, &str)) -> Result<Option<Vec<PathBuf>>> {
    let part = Part {
        subset: Some(subset),
        split: &[split],
    };
    match data::find(folder, part) {
        Ok(files) => Ok(Some(files)),
        Err(error) if error.code == Code::MISSING && folder.exists() => Ok(None),
        Err(error) => Err(error),
    }
}

/// The data: one file or folder, or several, as a host gives them when several ids of the hub were named.
fn paths(settings: &Settings) -> Result<Vec<PathBuf>> {
    match settings.0.get("data") {
        Some(serde_json::Value::Array(_)) => settings.need("data"),
        _ => Ok(vec![settings.path("data")?]),
    }
}
