#!/usr/bin/env bash
# The trial itself, run by try.sh: the tarball first, then the wheel. The folder given holds both.
set -euo pipefail
trial=$1
cd "$trial"
step() { printf '== %s\n' "$*"; }
demo() { "$@" run --demo --offline --quiet --model "$model" --task "$task" --limit 2 --out "$trial/runs" >out.txt 2>&1 || { cat out.txt; exit 1; }; }

step "no toolchain here: $(command -v cargo rustc cc gcc || echo none)"

step "the tarball runs from any folder"
mkdir -p "a folder" && tar xzf host-*.tar.gz -C "a folder" --strip-components 1
model=qwen3 task=arc demo "a folder/bin/host"
grep '|arc' out.txt
step "every model and every task, in this process"
model=all task=all demo "a folder/bin/host"
step "moved, and called over a link"
mv "a folder" moved
mkdir -p links && ln -sf ../moved/bin/host links/host
PATH=$trial/links:$PATH
host ls models | grep qwen3
if host ls models --verbose | grep unusable; then exit 1; fi
model=gemma task=finqa demo host
step "a plugin in a process of its own keeps what it promises"
host plugins check moved/lib/host/librules.so >check.txt || { cat check.txt; exit 1; }
step "completions, man pages and licences are there"
bash -c 'source moved/share/bash-completion/completions/host && complete -p host'
ls moved/share/man/man1 | wc -l
head -1 moved/share/doc/host/licences.txt
if [ "$(id -u)" = 0 ]; then
    step "for a user without rights"
    useradd --create-home somebody 2>/dev/null || true
    rm -rf /home/somebody/own && cp -r moved /home/somebody/own && chown -R somebody: /home/somebody/own
    su somebody -c 'cd && own/bin/host run --demo --offline --quiet --model qwen3 --task arc --limit 1 | grep arc'
fi

step "the wheel"
if ! python3 -m venv --help >/dev/null 2>&1 || ! python3 -c 'import ensurepip' 2>/dev/null; then
    [ "$(id -u)" = 0 ] || { echo "skipped: there is no python3-venv"; exit 0; }
    { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends python3 python3-venv; } >apt.txt 2>&1 \
        || { tail -3 apt.txt; echo "skipped: python3-venv cannot be installed"; exit 0; }
fi
rm -rf env && python3 -m venv env
env/bin/pip install --quiet --no-index host_eval-*.whl
PATH=$trial/env/bin:$PATH
hash -r
[ "$(command -v host)" = "$trial/env/bin/host" ]
model=qwen3 task=arc demo host
grep '|arc' out.txt
step "the module reads what the program wrote"
env/bin/python -m unittest discover --start-directory tests 2>&1 | tail -4
env/bin/python -c 'import host_eval; print([(run.model, run.task, len(list(run.records()))) for run in host_eval.runs("runs")][:3])'
