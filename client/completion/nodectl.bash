# nodectl.bash - completion for bash: commands, options, names of nodes, ids of jobs
# shellcheck shell=bash

# Names of nodes, ids of jobs: asked for at each Tab, answered within 1.5 s or not at all.
_nodectl_live() {
	"${_nodectl_call[@]}" --complete "$1" 2>/dev/null
}

_nodectl_reply() {
	mapfile -t COMPREPLY < <(compgen -W "$1" -- "$cur")
}

# The last name of a host list that is being typed: "gpu01,gp".
_nodectl_hosts() {
	local done=""
	[[ $cur == *,* ]] && done=${cur%,*},
	mapfile -t COMPREPLY < <(compgen -P "$done" -W "$(_nodectl_live nodes)" -- "${cur##*,}")
}

# Groups of checks; single ones once a letter is typed.
_nodectl_checks() {
	_nodectl_reply "$1 ib. gpu. node. sm. ${cur:+$(_nodectl_live checks)}"
}

# The first word of a job's command is a program, those behind it are files. Each once.
_nodectl_command() {
	local kinds=(-c -f) i with_value
	with_value=" $(_nodectl_live launch-values | tr '\n' ' ') --dir --socket "
	for ((i = at + 1; i < COMP_CWORD; i++)); do
		case ${COMP_WORDS[i]} in
		--) ((i + 1 < COMP_CWORD)) && kinds=(-f)
			break ;;
		-*) [[ $with_value == *" ${COMP_WORDS[i]} "* ]] && ((i++)) ;;
		*)
			kinds=(-f)
			break
			;;
		esac
	done
	mapfile -t COMPREPLY < <(compgen "${kinds[@]}" -- "$cur" | sort -u)
}

_nodectl_launch() {
	case $prev in
	-w | --hosts | -x | --exclude) _nodectl_hosts ;;
	--cwd) mapfile -t COMPREPLY < <(compgen -d -- "$cur") ;;
	--env) mapfile -t COMPREPLY < <(compgen -v -- "$cur") ;;
	--restart-on) _nodectl_reply "node any" ;;
	--net) _nodectl_reply "auto ib socket" ;;
	--on-hang) _nodectl_reply "report kill restart stacks stacks,kill stacks,restart" ;;
	-N | --nodes | --procs-per-node | --name | --time | --grace | -G | --gpus-per-node | --max-restarts | --spares) ;;
	*)
		if [[ $cur == -* ]]; then
			_nodectl_reply "-N --nodes -w --hosts -x --exclude -G --gpus-per-node --busy-gpus --per-node --per-gpu
				--procs-per-node --env --clean-env --cwd --name --detach --stdin --time --grace --immediate --max-restarts
				--restart-on --spares --net --on-hang --dry-run
				--label --no-label $global"
		else
			_nodectl_command
		fi
		;;
	esac
}

_nodectl() {
	local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD - 1]} i verb='' at=0 where
	local global="--dir --socket --json --help"
	local verbs="launch attach logs kill jobs job why status nodes node ports gpus token node-remove drain resume check events fix help"
	_nodectl_call=("${COMP_WORDS[0]}")
	COMPREPLY=()

	for ((i = 1; i < COMP_CWORD; i++)); do
		case ${COMP_WORDS[i]} in
		--) break ;;
		--dir | --socket)
			# bash makes three words of --dir=DIR
			[[ ${COMP_WORDS[i + 1]} == "=" ]] && where=2 || where=1
			_nodectl_call+=("${COMP_WORDS[i]}" "${COMP_WORDS[i + where]}")
			((i += where))
			;;
		--dir=* | --socket=*) _nodectl_call+=("${COMP_WORDS[i]}") ;;
		-*) ;;
		*)
			[[ $at != 0 ]] && continue
			verb=${COMP_WORDS[i]} at=$i
			;;
		esac
	done
	[[ $cur == "=" ]] && cur=''
	[[ $prev == "=" ]] && ((COMP_CWORD > 1)) && prev=${COMP_WORDS[COMP_CWORD - 2]}
	case $prev in
	--dir | --socket)
		mapfile -t COMPREPLY < <(compgen -f -- "$cur")
		return
		;;
	esac
	case $verb in
	"")
		_nodectl_reply "$verbs $global --version"
		;;
	launch)
		# behind the command its own words are completed as files
		for ((i = at + 1; i < COMP_CWORD; i++)); do
			if [[ ${COMP_WORDS[i]} == -- ]]; then
				_nodectl_command
				return
			fi
		done
		_nodectl_launch
		;;
	attach) _nodectl_reply "$(_nodectl_live jobs) --label --no-label $global" ;;
	logs)
		case $prev in
		-r | --rank | -n | --tail | --head | --since | --from | --attempt) ;;
		*) _nodectl_reply "$(_nodectl_live all-jobs) -f --follow -r --rank -n --tail --head --since --from --attempt \
			--stdout --stderr --label --no-label $global" ;;
		esac
		;;
	kill) [[ $prev == --grace ]] || _nodectl_reply "$(_nodectl_live jobs) --grace $global" ;;
	job | why) _nodectl_reply "$(_nodectl_live all-jobs) $global" ;;
	jobs)
		case $prev in
		-u | --user | --since | -n | --limit) ;;
		-s | --state) _nodectl_reply "queued preparing running ending restarting recovering done failed lost ended" ;;
		*) _nodectl_reply "$(_nodectl_live all-jobs) -a --all -u --user -s --state --since -n --limit $global" ;;
		esac
		;;
	status) _nodectl_reply "--watch $global" ;;
	nodes) _nodectl_reply "$global" ;;
	node) _nodectl_reply "$(_nodectl_live nodes) --topology $global" ;;
	node-remove) _nodectl_reply "$(_nodectl_live nodes) --force $global" ;;
	drain) case $prev in
		--why) ;;
		*) if [[ $cur == -* ]]; then _nodectl_reply "--why $global"; else _nodectl_hosts; fi ;;
		esac ;;
	resume) if [[ $cur == -* ]]; then _nodectl_reply "$global"; else _nodectl_hosts; fi ;;
	ports | gpus)
		case $prev in
		-w | --hosts) _nodectl_hosts ;;
		*) _nodectl_reply "-w --hosts $global" ;;
		esac
		;;
	token) if ((COMP_CWORD == at + 1)); then _nodectl_reply create; else
		_nodectl_reply "--ttl --uses --nodes --submit --uids $global"
	fi ;;
	check) if ((COMP_CWORD == at + 1)) && [[ $cur != -* ]]; then _nodectl_checks nccl; elif [[ ${COMP_WORDS[at + 1]} != nccl ]]; then
		case $prev in
		-w | --hosts) _nodectl_hosts ;;
		*) if [[ $cur == -* ]]; then _nodectl_reply "-w --hosts -v --verbose --explain $global"; else _nodectl_checks ""; fi ;;
		esac
	else
		case $prev in
		-w | --hosts | -x | --exclude) _nodectl_hosts ;;
		--env) mapfile -t COMPREPLY < <(compgen -d -- "$cur") ;;
		-N | --nodes | -G | --gpus-per-node | --procs-per-node | --mib | --timeout | --baseline-tolerance) ;;
		--ops) _nodectl_reply "broadcast reduce all_reduce all_gather reduce_scatter gather send_recv" ;;
		*) _nodectl_reply "-N --nodes -w --hosts -x --exclude -G --gpus-per-node --procs-per-node --env --mib --ops --timeout \
			--bisect --no-expect --baseline-tolerance --no-baseline --new-baseline --history -v --verbose $global" ;;
		esac
	fi ;;
	events)
		case $prev in
		-w | --hosts) _nodectl_hosts ;;
		-k | --kind) _nodectl_reply "node node.ok node.unreachable node.down node.lost node.rebooted node.joined node.removed node.twins \
			node.drain node.resume node.stuck node.unstuck verdict verdict.came verdict.gone cordon cordon.off \
			cordon.not uncordon fix.sm quarantine quarantine.not nccl nccl.slow nccl.ok hook hook.failed hook.ok \
			job job.started job.hung job.restarted job.done job.failed job.lost job.ended flapping" ;;
		-j | --job) _nodectl_reply "$(_nodectl_live all-jobs)" ;;
		--since | -n | --limit) ;;
		*) _nodectl_reply "-f --follow --since -w --hosts -k --kind -j --job -n --limit $global" ;;
		esac
		;;
	fix) if ((COMP_CWORD == at + 1)); then _nodectl_reply sm; else
		case $prev in
		-w | --host) _nodectl_hosts ;;
		--wait) ;;
		*) _nodectl_reply "-w --host --enable --wait $global" ;;
		esac
	fi ;;
	help)
		case $((COMP_CWORD - at)):$prev in
		1:*) _nodectl_reply "$verbs" ;;
		2:check) _nodectl_reply nccl ;;
		2:fix) _nodectl_reply sm ;;
		2:token) _nodectl_reply create ;;
		esac
		;;
	esac
}

complete -F _nodectl nodectl
