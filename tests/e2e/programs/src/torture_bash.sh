# What bash alone has: process substitution, coprocesses, wait -n, jobs, arrays of statuses. bash torture_bash.sh
set -u
paste <(seq 1 3) <(seq 4 6) <(seq 7 9 | rev)
diff <(printf 'a\nb\n') <(printf 'a\nc\n'); echo "diff $?"
seq 1 10 | tee >(wc -l >lines) >(tail -n 1 >last) >/dev/null
until [ -s lines ] && [ -s last ]; do sleep 0.02; done
cat lines last
while read -r a; do s=$((${s:-0} + a)); done < <(seq 1 100); echo "sum $s"
cat <(cat <(cat <(echo three deep)))

false | true | (exit 3) | true; echo "${PIPESTATUS[*]}"
set -o pipefail; (exit 2) | true; echo "pipefail $?"; set +o pipefail

coproc UPPER { while read -r l; do echo "${l^^}"; done; }
upper=$UPPER_PID
for word in one two three; do
  echo $word >&"${UPPER[1]}"
  read -r answer <&"${UPPER[0]}"
  echo "$answer"
done
end=${UPPER[1]}
exec {end}>&-
wait $upper; echo "coprocess $?"

# All have ended before wait -n looks: one that ends while it looks is missed, natively too.
ended=(); for s in 3 1 2; do (exit $s) & ended+=($!); done
while kill -0 "${ended[@]}" 2>/dev/null; do :; done
next=(); for _ in 1 2 3; do wait -n; next+=($?); done; printf '%s\n' "${next[@]}" | sort | paste -s
wait -n; echo "none left $?"

trap 'echo "error on line $LINENO"' ERR; false; trap - ERR
f() { trap 'echo return' RETURN; echo body; }; f
shopt -s lastpipe; echo piped | read -r here; echo "here $here"
mapfile -t many < <(seq 1 2000); echo "${#many[@]} ${many[-1]}"
exec {fd}<>"file"; echo through >&$fd; exec {fd}>&-; cat file
(for i in {1..200}; do sleep 0.$((i % 3)) & done; wait; echo "200 ended")
timeout 5 bash -c 'kill -STOP $BASHPID & wait_for=$!; sleep 0.1; kill -CONT $wait_for; wait $wait_for; echo "continued $?"'
bash -c 'trap "echo int; exit 9" INT; kill -INT $$; sleep 1'; echo "int $?"
time_out=$( { TIMEFORMAT=timed; time sleep 0.1; } 2>&1 ); echo "$time_out"
read -t 0.1 -r nothing < <(sleep 1); [ $? -gt 128 ] && echo "read timed out"
compgen -A signal | head -n 3 | tr '\n' ' '; echo
