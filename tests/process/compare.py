#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Real programs do exactly what they do without us.

compare.py CASE: runs the case's script twice in equal, empty folders, once plain and once with
libslabscope.so preloaded, and compares stdout, stderr, exit code and every file it left. Each
program the script starts is preloaded too. The scripts say nothing that depends on time or chance.
"""
import hashlib
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "support"))
import slabtest  # noqa: E402

NOTHING, STDERR = frozenset(), frozenset({"stderr"})

# name: (programs it needs, what not to compare, script for bash)
CASES = {
    "bash": (["bash"], NOTHING, r"""
        declare -A table
        for i in {1..3000}; do table[key$i]=$((i * i)); list+=("$i"); done
        total=0; for k in "${!table[@]}"; do total=$((total + table[$k])); done; echo $total
        text=$(for i in {1..2000}; do printf 'line %d\n' $i; done); echo "${#text} ${text//line/LINE}" | cksum
        for i in {1..150}; do (x=$(echo $i | cat); [ "$x" = $i ] || echo wrong); done
        f() { [ $1 -eq 0 ] || f $(($1 - 1)); }; f 200; echo "${list[@]:5:10}"
        while read -r a b; do echo "$b $a"; done < <(seq 1 500 | paste - -) | cksum
        cat <<< "${table[*]}" | wc -c; nonexistent_command_here; ls /nonexistent; exit 9
    """),
    "coreutils": (["sort", "sha256sum", "tar", "gzip"], NOTHING, r"""
        seq 1 200000 | sort -R --random-source=/bin/ls > shuffled
        sort -n shuffled | cksum; sort -S 1M --parallel=4 shuffled | uniq | wc -l
        ls -lR --time-style=+ /usr/include/c++ | cksum; ls -U /usr/bin | sort | head -50 | wc
        wc shuffled; sha256sum shuffled; md5sum shuffled; split -n 7 shuffled part.; cat part.* | cmp - shuffled
        mkdir -p t/a/b; cp -r /usr/include/c++/*/bits t/a/b; tar -cf t.tar --sort=name --mtime=@0 t
        tar -tf t.tar | sort | cksum; gzip -9n < t.tar > t.gz; gzip -dc t.gz | cmp - t.tar; du -s --apparent-size t >/dev/null
        cut -c1-3 shuffled | tr 0-9 a-j | paste -sd, | fold -w 100 | tac | nl | tail -3
        join <(seq 1 1000 | sort) <(seq 500 1500 | sort) | cksum; comm -12 <(seq 1 9) <(seq 5 15)
        rm -r t part.*; numfmt --to=iec 123456789; factor 600851475143; expr 6 \* 7; printf '%08.3f\n' 3.14159
        sort --no-such-option; cat /nonexistent; tar -xf /nonexistent.tar
    """),
    "text_tools": (["grep", "sed", "awk", "find", "bc"], NOTHING, r"""
        seq 1 100000 | awk '{ s[$1 % 997] += $1; t[$1] = $1 "x" } END { for (k in s) n += s[k]; print n, length(t) }'
        seq 1 50000 | sed -n 's/\(.\)\(.\)\(.*\)/\3\2\1/p' | grep -E '^([0-9])\1' | wc -l
        find /usr/include -name '*.h' -size +20k | sort | xargs grep -c '#define' | cksum
        diff <(seq 1 3000) <(seq 1 3 3000) | cksum; echo '2^4000; scale=200; 4*a(1)' | bc -l | cksum
        grep -r --include='*.h' -l 'malloc' /usr/include | sort | cksum; grep '[' /dev/null
    """),
    "xz": (["xz", "bzip2"], NOTHING, r"""
        head -c 6000000 /usr/bin/python3 > data; xz -T2 --block-size=1MiB -k data; xz -dc data.xz | cmp - data
        bzip2 -k data; bzip2 -dc data.bz2 | cmp - data; rm data.xz; echo $?
    """),
    "python3": (["python3"], NOTHING, r"""
        python3 - <<'END'
        import collections, concurrent.futures, ctypes, decimal, hashlib, json, multiprocessing, re, subprocess, sys, threading, zlib
        rows = [{"id": i, "name": "n%d" % (i % 97), "v": [i * j for j in range(20)]} for i in range(20000)]
        text = json.dumps(rows); print(hashlib.sha256(text.encode()).hexdigest(), len(json.loads(text)))
        print(len(re.findall(r'"n(\d+)"', text)), zlib.crc32(zlib.compress(text.encode())))
        print(collections.Counter(r["name"] for r in rows).most_common(3))
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            print(sum(pool.map(lambda n: len(str(2 ** n)), range(4000))))
        def child(n): return sum(len("x" * i) for i in range(n))
        with multiprocessing.Pool(4) as pool: print(sum(pool.map(child, range(300))))
        print([subprocess.run(["echo", str(i)], capture_output=True).stdout for i in range(5)])
        decimal.getcontext().prec = 500; print(decimal.Decimal(2).sqrt())
        print(bytes(ctypes.create_string_buffer(b"abc", 100))[:4]); sys.stderr.write("to stderr\n"); sys.exit(3)
        END
    """),
    "python3_malloc": (["python3"], NOTHING, r"""
        export PYTHONMALLOC=malloc
        python3 -c 'import json, ast, sys
        tree = ast.parse(open(json.__file__).read() * 20)
        print(len(ast.dump(tree))); d = {str(i): [i] * (i % 50) for i in range(100000)}; print(sum(map(len, d.values())))'
        python3 -m json.tool <<< '{"a": [1, 2, {"b": null}]}'; python3 -c 'raise SystemExit(1 + len([0] * 5))'
    """),
    "perl": (["perl"], NOTHING, r"""
        perl -e 'my %h; $h{$_ % 1013} .= "$_," for 1..200000; my $n = 0; $n += length for values %h; print "$n\n";
          my @s = sort { $h{$a} cmp $h{$b} } keys %h; print join(",", @s[0..9]), "\n";
          my $t = join " ", map { "word$_" } 1..50000; my $c = () = $t =~ /\b(\w+?)(\d)\2\b/g; print "$c\n";
          for (1..50) { my $p = fork; if (!$p) { my @x = (1) x 10000; exit scalar(@x) == 10000 ? 0 : 1 } waitpid $p, 0; print $? }
          sub r { my $d = shift; $d ? [r($d - 1), r($d - 1)] : 1 } my $tree = r(14); undef $tree; warn "a warning\n"; exit 4'
    """),
    "git": (["git"], NOTHING, r"""
        export GIT_AUTHOR_DATE='2020-01-01T00:00:00Z' GIT_COMMITTER_DATE='2020-01-01T00:00:00Z'
        git config --global user.name n; git config --global user.email e@example.org
        git config --global init.defaultBranch main; git config --global gc.auto 0
        git init -q one; cd one
        for i in {1..40}; do
          seq $i $((i * 300)) > file$((i % 7)); mkdir -p d$((i % 5)); seq $i 200 > d$((i % 5))/f$i
          git add -A; git commit -qm "change $i"
        done
        git log --format='%H %s' | cksum; git diff HEAD~20 | cksum; git blame file3 | cksum
        git checkout -q -b side HEAD~10; echo side > side; git add side; git commit -qm side
        git merge -q main -m merge; git rev-parse HEAD; cd ..
        git clone -q --no-local one two; cd two; git gc -q --aggressive; git fsck --full --strict --no-progress
        git log --stat | cksum; git grep -c 1 HEAD -- d1 | cksum; git repack -adfq --threads=2; git count-objects -v | grep -v size
        git archive HEAD | tar -t | sort | cksum; git status --short; git checkout nonexistent; cd ..; rm -rf one two
    """),
    "g++": (["g++"], NOTHING, r"""
        cat > a.cc <<'END'
        #include <algorithm>
        #include <functional>
        #include <map>
        #include <regex>
        #include <string>
        #include <tuple>
        #include <variant>
        #include <vector>
        template <int N> struct Chain { std::tuple<std::map<int, std::vector<std::string>>, std::variant<int, double, Chain<N - 1>*>> t; };
        template <> struct Chain<0> {};
        template <typename... T> auto sum(T... t) { return (t + ... + 0); }
        int main() {
          Chain<60> chain; std::regex pattern("([a-z]+)[0-9]*"); std::function<int(int)> f = [](int x) { return x + 1; };
          std::vector<std::string> v{"b", "a"}; std::sort(v.begin(), v.end());
          return std::regex_match("abc12", pattern) ? f(sum(1, 2, 3)) + int(v.size()) : 0;
        }
        END
        g++ -std=c++20 -O2 -g -c a.cc -o a.o; g++ a.o -o a; ./a; echo $?; rm a
        echo 'int f( { }' > bad.cc; g++ -c bad.cc
    """),
    "clang": (["clang++"], NOTHING, r"""
        printf '#include <map>\n#include <string>\nint main() { std::map<std::string, int> m{{"a", 7}}; return m["a"]; }\n' > a.cc
        clang++ -std=c++20 -O2 -c a.cc -o a.o; clang++ a.o -o a; ./a; echo $?; rm a; clang++ -c nonexistent.cc
    """),
    "cmake": (["cmake", "ninja"], NOTHING, r"""
        printf 'cmake_minimum_required(VERSION 3.25)\nproject(p C)\nadd_executable(p p.c)\n' > CMakeLists.txt
        echo 'int main(void) { return 6; }' > p.c; cmake -G Ninja -B b -Wno-dev > /dev/null && ninja -C b p > /dev/null
        b/p; echo $?; rm -rf b
        printf 'foreach(i RANGE 20000)\nlist(APPEND l ${i})\nendforeach()\nlist(LENGTH l n)\nmessage("${n}")\n' > s.cmake
        cmake -P s.cmake; cmake -P nonexistent.cmake
    """),
    "sqlite3": (["sqlite3"], NOTHING, r"""
        sqlite3 db <<'END'
        PRAGMA journal_mode = WAL;
        CREATE TABLE t(id INTEGER PRIMARY KEY, name TEXT, v REAL); CREATE INDEX i ON t(name, v);
        WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < 60000)
          INSERT INTO t SELECT n, 'name' || (n % 301), n * 0.5 FROM c;
        SELECT name, count(*), sum(v) FROM t GROUP BY name ORDER BY 3 DESC LIMIT 5;
        SELECT count(*) FROM t a JOIN t b ON a.id = b.id * 3 WHERE a.name LIKE '%9';
        DELETE FROM t WHERE id % 3 = 0; VACUUM; PRAGMA integrity_check; SELECT group_concat(id) FROM (SELECT id FROM t LIMIT 20);
        CREATE VIRTUAL TABLE f USING fts5(x); INSERT INTO f SELECT name FROM t; SELECT count(*) FROM f WHERE f MATCH 'name12';
        SELECT * FROM nonexistent;
        END
        echo $?; sqlite3 db .dump | cksum; rm db*
    """),
    "gdb": (["gdb"], NOTHING, r"""
        printf 'int g(int x) { return x * 2; }\nint main(void) { return g(21); }\n' > p.c; cc -g -O0 p.c -o p
        gdb -nx -batch -ex 'info line g' -ex 'print g' -ex 'ptype main' -ex 'python print(sum(range(10)))' p | sed 's/0x[0-9a-f]*/ADDR/g'
        rm p
    """),
    "valgrind": (["valgrind"], STDERR, r"""
        seq 1 3000 > in; valgrind -q --error-exitcode=99 sort -n -r in | cksum; valgrind -q --error-exitcode=99 true; echo $?
    """),
    "strace": (["strace"], STDERR, r"""
        strace -f -o /dev/null sh -c 'echo one; echo two | cat; exit 5'; echo $?
    """),
    "many_processes": (["bash"], NOTHING, r"""
        seq 1 600 | xargs -P 4 -n 1 sh -c 'test "$(echo $0 | tr 0-9 a-j)" || echo empty'; echo $?
    """),
}


def digest_of(folder):
    """Every file in the folder, with its contents' digest."""
    files = {}
    for path in sorted(folder.rglob("*")):
        if path.is_symlink():
            files[str(path.relative_to(folder))] = os.readlink(path)
        elif path.is_file():
            files[str(path.relative_to(folder))] = hashlib.sha256(path.read_bytes()).hexdigest()
    return files


def unindent(script):
    lines = script.strip("\n").split("\n")
    return "\n".join(line[8:] if line.startswith(" " * 8) else line for line in lines) + "\n"


def run_once(script, folder, environment):
    folder.mkdir()
    # The shell itself is preloaded by name, so that bash's own messages carry the same $0.
    done = subprocess.run(["bash", "-c", unindent(script), "case"], cwd=folder, env=environment,
                          stdin=subprocess.DEVNULL, capture_output=True, timeout=240, check=False)
    seen = {"exit code": done.returncode, "stdout": done.stdout, "stderr": done.stderr,
            "files": digest_of(folder)}
    shutil.rmtree(folder)
    return seen


def main():
    needed, ignored, script = CASES[sys.argv[1]]
    for program in needed:
        if shutil.which(program) is None:
            print(f"{program} is not installed")
            return 77
    with tempfile.TemporaryDirectory(prefix="slabscope-compare-") as scratch, \
            slabtest.scope_directory():
        folder = pathlib.Path(scratch) / "work"
        environment = {name: value for name, value in os.environ.items()
                       if name in ("PATH", "SLABSCOPE_DIR")}
        environment |= {"HOME": str(folder), "LC_ALL": "C.UTF-8", "TZ": "UTC",
                        "PYTHONDONTWRITEBYTECODE": "1", "GIT_CONFIG_NOSYSTEM": "1", "GIT_PAGER": "cat"}
        plain = run_once(script, folder, environment)
        ours = run_once(script, folder, {**environment, "LD_PRELOAD": slabtest.LIB})
        was_preloaded = any(pathlib.Path(os.environ["SLABSCOPE_DIR"]).iterdir())
    different = [what for what in plain if plain[what] != ours[what] and what not in ignored]
    for what in different:
        print(f"--- {what}, without us:\n{plain[what]}\n--- {what}, with us:\n{ours[what]}")
    print(f"{sys.argv[1]}: exit code {plain['exit code']}, {len(plain['stdout'])} bytes on stdout, "
          f"{len(plain['stderr'])} on stderr, {len(plain['files'])} files; different: {different}")
    if not was_preloaded:
        print("no scope file was made: was the library preloaded at all?")
    return 1 if different or not was_preloaded else 0


if __name__ == "__main__":
    sys.exit(main())
