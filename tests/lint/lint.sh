#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# lint.sh: what the compiler does not check. Which layer knows which, how long
# things may get, what a file begins with. Each check prints its offenders.
. "$(dirname "$0")/../common.sh"

C_DIRS=(include lib libraft libmvcc kvd etcfs ctl tests)
mapfile -t C < <(find "${C_DIRS[@]}" -name '*.c' | sort)
mapfile -t H < <(find "${C_DIRS[@]}" -name '*.h' | sort)
mapfile -t GO < <(find tests -name '*.go' | sort)
mapfile -t SH < <(find tests .ci -type f \( -name '*.sh' -o -path '.ci/run' \) | sort)
mapfile -t OTHER < <(find tests lib/proto -name '*.py' -o -name '*.proto' | sort)
SOURCES=("${C[@]}" "${H[@]}" "${GO[@]}" "${SH[@]}" "${OTHER[@]}")

# none TITLE COMMAND...: passes where COMMAND prints nothing
none() {
	local title=$1 out
	shift
	out=$("$@" 2>&1)
	if [[ -z $out ]]; then ok "$title"; else not_ok "$title" "$out"; fi
}

# --- who knows whom ---------------------------------------------------------

# own_includes DIR...: "file:include" for each #include "..." in the DIRs
own_includes() {
	find "$@" -name '*.[ch]' -exec grep -HoE '^#include "[^"]+"' {} + |
		sed 's/#include "//; s/"$//'
}

# knows_only DIR ALLOWED-REGEX: names are relative to the top, or to include/ itself
knows_only() { own_includes "$1" | grep -vE ":($2)"; }

system_includes() {
	find "$1" -name '*.[ch]' ! -name "${2:-none}" -exec \
		grep -HoE '^#include <[^>]+>' {} + |
		grep -vE "<(std[a-z]+|string|errno|limits|inttypes)\.h>"
}

# Only one file may see Berkeley DB.
db_files() {
	local files
	files=$(grep -lE '^#include <db\.h>' "${C[@]}" "${H[@]}" | grep -v '^tests/')
	[[ $(wc -w <<<"$files") -le 1 ]] || echo "$files"
}

# A private header, *_i.h, is for its own directory; tests may look inside.
private_headers() {
	own_includes include lib libraft libmvcc kvd etcfs ctl |
		awk -F: '$2 ~ /_i\.h$/ { dir = $1; sub("/[^/]*$", "", dir);
			if (index($2, dir "/") != 1 && $2 ~ "/") print }'
}

none 'include knows only itself' knows_only include 'include/|[a-z_]+\.h$'
none 'libraft knows only include and itself' knows_only libraft 'include/|libraft/'
none 'libmvcc knows only include and itself' knows_only libmvcc 'include/|libmvcc/'
none 'lib knows only include and itself' knows_only lib 'include/|lib/'
none 'kvd knows the libraries and itself' knows_only kvd \
	'include/|lib/|libraft/raft\.h|libmvcc/mvcc\.h|kvd/'
none 'etcfs knows lib and itself' knows_only etcfs 'include/|lib/|etcfs/'
none 'ctl knows lib and itself' knows_only ctl 'include/|lib/|ctl/'
none 'private headers stay in their directory' private_headers
none 'libraft includes nothing of the system but C' system_includes libraft
none 'libmvcc includes nothing of the system but C' system_includes libmvcc '*bdb*.[ch]'
none 'one file sees Berkeley DB' db_files

# --- what the cores call ----------------------------------------------------

MEMORY='malloc|calloc|realloc|free|reallocarray|posix_memalign|aligned_alloc'
STRING='(__)?(mem|str)[a-z]+(_chk)?|qsort|bsearch|(__)?v?snprintf(_chk)?'
COMPILER='__stack_chk_fail|_GLOBAL_OFFSET_TABLE_|__popcountdi2|__(asan|ubsan|tsan|san)[a-z]*_.*'

# calls_only ARCHIVE [OBJECT]: what ARCHIVE, without OBJECT, takes from elsewhere
calls_only() {
	[[ -e $O/$1 ]] || { echo "$O/$1 is not built"; return; }
	nm "$O/$1" | awk 'NF == 3 && $2 != "U" { print $3 }' | sort -u >"$TMP/defined"
	nm -A -u "$O/$1" | grep -v ":${2:-none}:" | awk '{ print $NF }' | sort -u |
		comm -23 - "$TMP/defined" | grep -vxE "$MEMORY|$STRING|$COMPILER"
}

none 'libraft calls memory and string functions only' calls_only libraft.a
none 'libmvcc calls memory and string functions only' calls_only libmvcc.a '[a-z_]*bdb[a-z_]*\.o'

# --- headers ----------------------------------------------------------------

headers_alone() {
	local h flags
	[[ -e $O/.flags ]] || { echo "$O/.flags is missing: make"; return; }
	eval "flags=($(<"$O/.flags"))"
	for h in "${H[@]}"; do
		"${flags[@]}" -Wno-unused-function -fsyntax-only -x c \
			-include "$h" /dev/null 2>&1 | head -3
	done
}
none 'each header compiles alone' headers_alone

# --- how long things get ----------------------------------------------------

long_files() {
	wc -l "${SOURCES[@]}" | awk '$1 > 800 && $2 != "total" { print $2 ": " $1 " lines" }'
}

long_lines() {
	awk 'FNR == 1 { tab = FILENAME ~ /\.go$/ ? 4 : 8 }
	{
		n = 0
		for (i = 1; i <= length($0); i++)
			n = substr($0, i, 1) == "\t" ? int(n / tab + 1) * tab : n + 1
		# tables of expected text may be wider
		if (n > 100 && !(FILENAME ~ /^tests\/unit/ && /"/))
			print FILENAME ":" FNR ": " n " columns"
	}' "${SOURCES[@]}"
}

tags() { ctags -f - --languages=C --kinds-C=f --fields=+neS "${C[@]}" "${H[@]}"; }

long_functions() {
	tags | awk -F'\t' '{
		for (i = 4; i <= NF; i++) {
			if ($i ~ /^line:/) from = substr($i, 6)
			if ($i ~ /^end:/) to = substr($i, 5)
		}
		if (to - from + 1 > 70) print $2 ": " $1 " has " to - from + 1 " lines"
	}'
}

many_parameters() {
	tags | awk -F'\t' '$2 !~ /^tests\// && match($0, /signature:[^\t]*/) {
		s = substr($0, RSTART, RLENGTH)
		depth = n = 0
		for (i = 1; i <= length(s); i++) {
			c = substr(s, i, 1)
			if (c == "(") depth++
			if (c == ")") depth--
			if (c == "," && depth == 1) n++
		}
		if (s ~ /\.\.\./) n--
		if (n + 1 > 7) print $2 ": " $1 " has " n + 1 " parameters"
	}'
}

# Assertions of libraft, which is to state what it relies on: two in each function on an
# average, one at least in each, of those whose body has more than six lines. Those that
# judge what comes from outside, *_is_valid and *_error, may not assert anything of it.
few_assertions() {
	ctags -f - --languages=C --kinds-C=f --fields=+ne libraft/*.[ch] |
		awk -F'\t' -v OFS='\t' '{
			for (i = 4; i <= NF; i++) {
				if ($i ~ /^line:/) from = substr($i, 6)
				if ($i ~ /^end:/) to = substr($i, 5)
			}
			if (to - from > 8) print $2, from, to, $1
		}' >"$TMP/functions"
	awk -F'\t' 'NR == FNR { n++; name[n] = $1 ": " $4
			for (i = $2; i <= $3; i++) inside[$1, i] = n
			next }
		(FILENAME, FNR) in inside {
			f = inside[FILENAME, FNR]
			found = gsub(/BUG_ON\(|BUG\(\)|_Static_assert\(/, "")
			has[f] += found
			sum += found
		}
		END {
			for (i = 1; i <= n; i++)
				if (!has[i] && name[i] !~ /_(is_valid|error)$/)
					print name[i] " asserts nothing"
			if (sum < 2 * n) print sum " assertions in " n " functions"
		}' "$TMP/functions" libraft/*.[ch]
}

none 'no file is longer than 800 lines' long_files
none 'no line is wider than 100 columns' long_lines
if command -v ctags >/dev/null; then
	none 'no function is longer than 70 lines' long_functions
	none 'no function has more than 7 parameters' many_parameters
	none 'libraft has two assertions a function' few_assertions
else
	skip 'function lengths and assertions' 'no ctags'
fi

# --- what is written how ----------------------------------------------------

no_licence() {
	local f line
	for f in "${SOURCES[@]}" Makefile; do
		line=$(head -n 1 "$f")
		[[ $line == '#!'* ]] && line=$(sed -n 2p "$f")
		[[ $line == *'SPDX-License-Identifier: Apache-2.0'* ]] || echo "$f"
	done
}

# Eight blanks at the start of a line are a tab; a comment's star may follow tabs.
blanks() { grep -nHE '^ {8}|[[:blank:]]+$' "${C[@]}" "${H[@]}" "${GO[@]}" "${SH[@]}"; }

BANNED='strcpy|strcat|sprintf|vsprintf|strtok|gets|alloca|strncpy|strncat|atoi|atol'
BANNED="$BANNED|system|popen|tmpnam|mktemp"
banned() {
	[[ -e include/banned.h ]] || echo 'include/banned.h is missing'
	grep -nHE "(^|[^A-Za-z0-9_>.\"])($BANNED)\(" "${C[@]}" "${H[@]}"
}

marks() { grep -nHwE 'T''ODO|F''IXME|X''XX|H''ACK' "${SOURCES[@]}"; }

# Paths of the machine that something was written on.
paths() { grep -nHE '(^|[^A-Za-z0-9_.$}])/(work|root)/' "${SOURCES[@]}" Makefile README.md; }

conditionals() {
	grep -nHE '^# *if(def|ndef)? ' "${C[@]}" |
		grep -vE '^tests/|#if(ndef KVD_|def __SAN)[A-Z_]+$'
}

none 'every source begins with its licence' no_licence
none 'tabs, and no blanks at the end of a line' blanks
none 'banned calls' banned
none 'no marks of unfinished work but NEEDSWORK' marks
none 'no paths of the machine it was written on' paths
none 'no conditional compilation in .c files' conditionals

# --- scripts ----------------------------------------------------------------

scripts_parse() { local f; for f in "${SH[@]}"; do bash -n "$f"; done; }
not_executable() { find "${SH[@]}" ! -perm -u+x ! -name common.sh ! -name '*_lib.sh'; }

none 'every script parses' scripts_parse
none 'every script can be run' not_executable
if command -v gofmt >/dev/null; then
	none 'Go is formatted' gofmt -l "${GO[@]}"
else
	skip 'Go is formatted' 'no gofmt'
fi
# --- manual pages come from the programs ---------------------------------------

man_differs() { "$1" --man | diff - "$2" | head -n 5; }

none 'docs/kvd.8 is what kvd --man prints' man_differs "$KVD" docs/kvd.8
none 'docs/etcfs.8 is what etcfs --man prints' man_differs "$O/etcfs" docs/etcfs.8

finish
