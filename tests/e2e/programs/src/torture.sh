# A shell's machinery, part by part: SHELL torture.sh PART... in an empty directory. The output is the same every
# time and in every POSIX shell; "FAILED" is never in it. MIXED: prefixes of programs of both architectures.
set -u
fail() { echo "FAILED $*"; }

pipeline() { # five stages, their order, the last one's status, and a reader that leaves early
  seq 1 5000 | grep 7 | sed 's/7/seven/g' | sort -r | head -n 3
  seq 1 100 | tr '\n' ' ' | wc -w | tr -d ' ' | cat | (read -r n; echo "n=$n"; exit 5)
  echo "status $?"
  yes | head -n 100000 | tail -n +99999 | uniq -c | tr -s ' '
  i=0
  while [ $i -lt 20 ]; do
    echo $i | cat | cat | cat | cat >>five
    i=$((i + 1))
  done
  cat five | paste -s -d, -
  { echo a; echo b >&2; } 2>&1 | sort -r | tr '\n' '+' | sed 's/+$//' | { cat; echo; }
}

here() { # documents: quoted, expanded, long, two on one line, within a substitution
  name=world
  cat <<END
hello $name $((6 * 7)) $(echo "nested $(echo twice)")
END
  cat <<'END'
hello $name `echo no`
END
  cat <<-END
	tabs go
	END
  cat <<A - <<B
from A
A
from B
B
  text=$(cat <<END
in a substitution
END
  )
  echo "$text"
  long=0123456789
  while [ ${#long} -lt 80000 ]; do
    long=$long$long
  done
  wc -c <<END | tr -d ' ' # more than a pipe holds
$long
END
  while read -r a b; do
    echo "$b $a"
  done <<END
1 one
2 two
END
}

subshells() { # what they inherit, and what does not come back
  x=outer
  (x=inner; cd /; umask 077; exec 7>&-; echo "$x")
  echo "$x" "$(umask)"
  [ "$(pwd)" = / ] && fail cwd
  (exit 3); echo $?
  (false; (true; (exit 9)); echo $?)
  ( (echo deep | (cat | (cat; echo after)) ) )
  v=$( (echo one; echo two) | while read -r l; do printf '%s;' "$l"; done)
  echo "$v"
  n=0
  seq 5 | while read -r l; do n=$((n + l)); done
  echo "n=$n is this shell's or the subshell's: $([ $n -eq 0 ] && echo own)"
}

jobs_() { # background, wait by pid, statuses, and a job that outlives its parent
  for s in 1 2 3 4 5; do
    (exit $s) &
    eval "p$s=$!"
  done
  for s in 5 3 1 2 4; do
    eval "wait \$p$s"
    echo "$s $?"
  done
  (echo first >order; echo second >>order) & wait
  cat order
  sleep 30 & victim=$!
  kill -TERM $victim
  wait $victim 2>/dev/null
  echo "killed $?"
  (sh -c 'while [ ! -e go ]; do sleep 0.02; done; echo orphan >orphaned' &)
  : >go
  until [ -s orphaned ]; do sleep 0.02; done
  cat orphaned
  wait 999999 2>/dev/null
  echo "not a child $?"
}

traps() { # handlers, their order after a wait, inheritance, EXIT in subshells
  trap 'echo usr1' USR1
  trap 'echo usr2; last=yes' USR2
  kill -USR1 $$
  kill -USR2 $$
  echo "last=$last"
  (trap 'echo leaving the subshell' EXIT; echo inside)
  me=$$
  (kill -USR1 $me) & wait $!
  sleep 0.5 & kill -USR2 $$; wait $!
  trap '' TERM
  sh -c 'kill -TERM $$; echo "ignored as inherited"'
  trap - TERM
  sh -c 'kill -TERM $$; echo never'
  echo "status $?"
  sh -c 'trap "echo bye \$?; exit 7" EXIT; exit 3'
  echo "status $?"
  (trap 'exit 12' ALRM; kill -ALRM "$(sh -c 'echo $PPID')"; sleep 5; echo never)
  echo "status $?"
  n=0
  trap 'n=$((n + 1))' USR1
  i=0
  while [ $i -lt 50 ]; do
    kill -USR1 $$
    i=$((i + 1))
  done
  echo "$n handled"
}

redirections() { # exec, duplicates, swapped, closed, appended, for compound commands
  exec 3>three 4>four
  echo to three >&3
  echo to four >&4
  exec 3>&4
  echo also four >&3
  exec 3>&- 4>&-
  cat three four
  (echo none >&3) 2>/dev/null || echo "3 is closed"
  { echo out; echo err >&2; } 3>&1 1>&2 2>&3 3>&- | sed 's/^/swapped: /' 2>/dev/null
  exec 5<four
  read -r a <&5
  (read -r b <&5; echo "child read $b")
  read -r c <&5 || echo "nothing is left: $a"
  exec 5<&-
  for i in 1 2 3; do echo line $i; done >loop
  while read -r l; do echo "[$l]"; done <loop >>loop2
  if true; then cat; fi <loop2
  echo kept >append; echo more >>append; cat append
  : >|append; [ -s append ] && fail truncated
  exec 6<>both
  echo abc >&6
  exec 6<&-
  cat both
  cat <missing 2>/dev/null || echo "missing"
  (exec >gone; echo in a file); cat gone
  (exec cat three); exec 9>&1; echo nine >&9; exec 9>&-
}

fifos() { # opening waits for the other end; several writers, one reader
  mkfifo gate
  (read -r line <gate; echo "got $line" >result) &
  echo through >gate
  wait
  cat result
  (sort -n <gate >sorted) &
  exec 7>gate
  for i in 3 1 2; do (echo $i >&7) & done
  exec 7>&-
  wait
  cat sorted
  exec 6<>gate
  echo both ways >&6
  read -r line <&6
  echo "$line"
  exec 6>&-
}

nested() { # command substitution three deep, with pipes and statuses within
  echo "$(echo a $(echo b $(echo c | tr a-z A-Z) | rev) | tr ' ' _)"
  x=$(exit 4); echo $?
  echo "`echo \`echo \\\`echo back\\\`\``"
  f() { echo "$1" | if [ "$1" -gt 0 ]; then echo "$1:$(f $(($1 - 1)))"; else cat; fi; }
  f 6
  large=$(seq 1 30000)
  echo ${#large}
  set -- $(seq 1 500)
  echo $# "${500}"
  eval "$(printf 'echo %s\n' "$(echo "evaluated $(expr 6 \* 7)")")"
  [ "$(printf 'a\n\n\n')" = a ] && echo trimmed
}

children() { # 200 at once: none ends before all have begun
  { until [ -e begun ]; do sleep 0.05; done; seq 200 | tr -d '0-9'; } | {
    exec 8<&0
    i=0
    while [ $i -lt 200 ]; do
      (read -r _ <&8; echo "$i" >>all; exit $((i % 7))) &
      i=$((i + 1))
    done
    : >begun
    wait $!
    echo "the last one $?"
    wait
  }
  sort -n all | uniq | wc -l | tr -d ' '
  sort -n all | tail -n 1
  rm all
}

mixed() { # a pipeline of programs of both architectures, one executing the other
  first=${MIXED% *} second=${MIXED#* }
  seq 1 300 | $first grep 3 | $second sort -r | $first sed s/3/x/ | $second head -n 2
  $first sh -c "$second sh -c '$first echo three deep; exit 6'"
  echo "status $?"
  echo script | $first sh -c "exec $second tr a-z A-Z"
  printf '#!%s\necho interpreted by the other $1\n' "$second sh" >script
  chmod +x script
  $first sh -c './script one'
  n=0
  while [ $n -lt 5 ]; do
    echo $n
    n=$((n + 1))
  done | $second awk '{ s += $1 } END { print s }' | $first cat | $second cat | $first wc -c | tr -d ' '
  $second find . -name script -exec $first cat {} + | head -n 1 | cut -c 1-2
}

for part; do
  case $part in
    jobs) jobs_ ;;
    *) $part ;;
  esac
  echo "$part ended with $?"
done
