# Five commits at fixed times, and what git tells about them.
set -e
export GIT_AUTHOR_NAME=A GIT_AUTHOR_EMAIL=a@example.org GIT_COMMITTER_NAME=C GIT_COMMITTER_EMAIL=c@example.org
git -c init.defaultBranch=main init -q repository
cd repository
git config user.name U
git config user.email u@example.org
git config gc.auto 0
git config commit.gpgsign false
for n in one two three four five; do
  echo "$n" >>file
  cp ../text/long.txt "copy-$n"
  export GIT_AUTHOR_DATE="2024-01-02T03:04:0${#n} +0000" GIT_COMMITTER_DATE="2024-01-02T03:05:0${#n} +0000"
  git add .
  git commit -q -m "add $n"
done
git log --stat --format='%H %an %ad %s' --date=iso
git fsck --full
git status
