# git clone and git push over a git daemon.
export HOME=$PWD GIT_CONFIG_NOSYSTEM=1 GIT_AUTHOR_DATE='2026-01-01T00:00:00Z' GIT_COMMITTER_DATE='2026-01-01T00:00:00Z'
git config --global user.name Somebody && git config --global user.email somebody@example.org
git config --global init.defaultBranch main && git config --global safe.directory '*'
git init -q one && cd one && seq 3000 >numbers && git add . && git commit -qm first && cd ..
git clone -q --bare one served
git daemon --reuseaddr --listen=127.0.0.1 --port=8009 --base-path="$PWD" --export-all --enable=receive-pack >log 2>&1 &
wait_for 8009
git clone -q git://127.0.0.1:8009/served two
cd two && git log --format='%h %s' && echo more >>numbers && git commit -qam second && git push -q origin main && cd ..
git -C served log --format='%h %s'
kill %1
