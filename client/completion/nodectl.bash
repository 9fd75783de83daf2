# nodectl.bash - completion for bash: commands, options, names of nodes, ids of jobs
# shellcheck shell=bash

# Values of one field in the array of the status document, without a JSON parser.
_nodectl_names() {
	"${_nodectl_call[@]}" --json nodes 2>/dev/null | grep -oE '"name":"[^"]*"' | cut -d'"' -f4
}

_nodectl_jobs() {
	"${_nodectl_call[@]}" --json jobs "$@" 2>/dev/null | grep -oE '"job":[0-9]+' | cut -d: -f2
}

_nodectl_reply() {
	mapfile -t COMPREPLY < <(compgen -W "$1" -- "$cur")
}

# The last name of a host list that is being typed: "gpu01,gp".
_nodectl_hosts() {
	local done=""
	[[ $cur == *,* ]] && done=${cur%,*},
	mapfile -t COMPREPLY < <(compgen -P "$done" -W "$(_nodectl_names)" -- "${cur##*,}")
}

_nodectl_launch() {
	case $prev in
	-w | --hosts | -x | --exclude) _nodectl_hosts ;;
	--cwd) mapfile -t COMPREPLY < <(compgen -d -- "$cur") ;;
	--env) mapfile -t COMPREPLY < <(compgen -v -- "$cur") ;;
	-N | --nodes | --procs-per-node | --name | --time | --grace | -G | --gpus-per-node) ;;
	*)
		if [[ $cur == -* ]]; then
			_nodectl_reply "-N --nodes -w --hosts -x --exclude --per-node --procs-per-node --env --clean-env --cwd --name
				--detach --stdin --time --grace --immediate --dry-run --label --no-label -G --gpus-per-node --help"
		else
			mapfile -t COMPREPLY < <(compgen -c -f -- "$cur")
		fi
		;;
	esac
}

_nodectl() {
	local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD - 1]} i verb='' at=0
	local global="--dir --socket --json --help --version"
	_nodectl_call=("${COMP_WORDS[0]}")
	COMPREPLY=()

	for ((i = 1; i < COMP_CWORD; i++)); do
		case ${COMP_WORDS[i]} in
		--dir | --socket)
			_nodectl_call+=("${COMP_WORDS[i]}" "${COMP_WORDS[i + 1]}")
			((i++))
			;;
		-*) ;;
		*)
			verb=${COMP_WORDS[i]} at=$i
			break
			;;
		esac
	done
	case $prev in
	--dir | --socket)
		mapfile -t COMPREPLY < <(compgen -f -- "$cur")
		return
		;;
	esac
	case $verb in
	"")
		_nodectl_reply "launch attach logs kill jobs job status nodes node token node-remove help $global"
		;;
	launch)
		# behind the command its own words are completed as files
		for ((i = at + 1; i < COMP_CWORD; i++)); do
			if [[ ${COMP_WORDS[i]} == -- ]]; then
				mapfile -t COMPREPLY < <(compgen -c -f -- "$cur")
				return
			fi
		done
		_nodectl_launch
		;;
	attach) _nodectl_reply "$(_nodectl_jobs) --label --no-label --help" ;;
	logs)
		case $prev in
		-r | --rank) ;;
		*) _nodectl_reply "$(_nodectl_jobs --all) -f --follow -r --rank --label --no-label --help" ;;
		esac
		;;
	kill) [[ $prev == --grace ]] || _nodectl_reply "$(_nodectl_jobs) --grace --help" ;;
	job) _nodectl_reply "$(_nodectl_jobs --all) --help" ;;
	jobs) _nodectl_reply "--all --help" ;;
	status) _nodectl_reply "--watch --help" ;;
	nodes) _nodectl_reply "--help" ;;
	node | node-remove) _nodectl_reply "$(_nodectl_names) --help" ;;
	token) if ((COMP_CWORD == at + 1)); then _nodectl_reply create; else
		_nodectl_reply "--ttl --uses --nodes --submit --uids --help"
	fi ;;
	help) _nodectl_reply "launch attach logs kill jobs job status nodes node token node-remove" ;;
	esac
}

complete -F _nodectl nodectl
