// The upload-artifact action for tests: the inputs and outputs of the real one, around the official
// client and the official file search. Messages are those that the real one prints.

import { stat } from "node:fs/promises";
import { dirname, join, sep } from "node:path";
import artifact, { ArtifactNotFoundError } from "@actions/artifact";
import * as core from "@actions/core";
import * as glob from "@actions/glob";

/** The deepest directory that all paths are in, or are. */
function commonParent(paths) {
  const [first, ...others] = paths.map((path) => path.split(sep));
  const end = first.findIndex((part, index) => others.some((other) => other[index] !== part));
  return join(sep, ...(end < 0 ? first : first.slice(0, end)));
}

async function search(patterns, includeHiddenFiles) {
  const globber = await glob.create(patterns, { excludeHiddenFiles: !includeHiddenFiles });
  const found = await globber.glob();
  const isFile = await Promise.all(found.map(async (path) => !(await stat(path)).isDirectory()));
  const files = found.filter((_, index) => isFile[index]);
  const roots = globber.getSearchPaths();
  // A file that was named is uploaded under its own name, without its directories.
  const isOneNamedFile = files.length === 1 && roots.length === 1 && files[0] === roots[0];
  return { files, root: isOneNamedFile ? dirname(files[0]) : commonParent(roots) };
}

async function deleteIfThere(name) {
  try {
    await artifact.deleteArtifact(name);
  } catch (error) {
    if (!(error instanceof ArtifactNotFoundError)) throw error;
  }
}

function number(input, isValid) {
  const text = core.getInput(input);
  const value = text === "" ? undefined : Number.parseInt(text, 10);
  if (value !== undefined && !isValid(value)) throw new Error(`Invalid ${input}`);
  return value;
}

async function run() {
  const name = core.getInput("name");
  const path = core.getInput("path", { required: true });
  const report = {
    warn: core.warning,
    error: core.setFailed,
    ignore: core.info,
  }[core.getInput("if-no-files-found")];
  if (!report) throw new Error("Unrecognized if-no-files-found input");
  const options = {
    retentionDays: number("retention-days", (days) => days >= 0),
    compressionLevel: number("compression-level", (level) => level >= 0 && level <= 9),
  };
  const overwrite = core.getBooleanInput("overwrite");
  const { files, root } = await search(path, core.getBooleanInput("include-hidden-files"));
  if (files.length === 0) {
    report(`No files were found with the provided path: ${path}. No artifacts will be uploaded.`);
    return;
  }
  if (overwrite) await deleteIfThere(name);
  const { id, size, digest } = await artifact.uploadArtifact(name, files, root, options);
  core.info(
    `Artifact ${name} has been successfully uploaded! Final size is ${size} bytes. Artifact ID is ${id}`,
  );
  const { GITHUB_SERVER_URL, GITHUB_REPOSITORY, GITHUB_RUN_ID } = process.env;
  core.setOutput("artifact-id", id);
  core.setOutput("artifact-digest", digest);
  core.setOutput(
    "artifact-url",
    `${GITHUB_SERVER_URL}/${GITHUB_REPOSITORY}/actions/runs/${GITHUB_RUN_ID}/artifacts/${id}`,
  );
}

try {
  await run();
} catch (error) {
  core.setFailed(error.message);
}
