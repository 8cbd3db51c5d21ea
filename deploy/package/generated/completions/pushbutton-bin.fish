# Print an optspec for argparse to handle cmd's options that are independent of any subcommand.
function __fish_pushbutton_bin_global_optspecs
    string join \n c/config= log-format= log-level= v/verbose color= h/help V/version
end

function __fish_pushbutton_bin_needs_command
    # Figure out if the current invocation already has a command.
    set -l cmd (commandline -opc)
    set -e cmd[1]
    argparse -s (__fish_pushbutton_bin_global_optspecs) -- $cmd 2>/dev/null
    or return
    if set -q argv[1]
        # Also print the command, so this can be used to figure out what it is.
        echo $argv[1]
        return 1
    end
    return 0
end

function __fish_pushbutton_bin_using_subcommand
    set -l cmd (__fish_pushbutton_bin_needs_command)
    test -z "$cmd"
    and return 1
    contains -- $cmd[1] $argv
end

complete -c pushbutton-bin -n "__fish_pushbutton_bin_needs_command" -s c -l config -d 'The configuration file' -r -F
complete -c pushbutton-bin -n "__fish_pushbutton_bin_needs_command" -l log-format -d 'The format of log lines' -r -f -a "human\t'For people: progress on standard output, log lines on standard error'
json\t'For machines: one JSON object per line, on standard error'"
complete -c pushbutton-bin -n "__fish_pushbutton_bin_needs_command" -l log-level -d 'What to log: error, warn, info, debug, trace, or a filter such as `info,pushbutton_gerrit=debug` [default: info]' -r
complete -c pushbutton-bin -n "__fish_pushbutton_bin_needs_command" -l color -d 'Use colors' -r -f -a "auto\t''
always\t''
never\t''"
complete -c pushbutton-bin -n "__fish_pushbutton_bin_needs_command" -s v -l verbose -d 'Also print every line of output of the stages'
complete -c pushbutton-bin -n "__fish_pushbutton_bin_needs_command" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c pushbutton-bin -n "__fish_pushbutton_bin_needs_command" -s V -l version -d 'Print version'
complete -c pushbutton-bin -n "__fish_pushbutton_bin_needs_command" -f -a "run" -d 'Run the whole CI in one process: handler and operator'
complete -c pushbutton-bin -n "__fish_pushbutton_bin_needs_command" -f -a "handler" -d 'Run the ingest half: read events from Gerrit, put jobs on the queue, and post comments with their results'
complete -c pushbutton-bin -n "__fish_pushbutton_bin_needs_command" -f -a "operator" -d 'Run the work half: claim jobs from the queue and run them'
complete -c pushbutton-bin -n "__fish_pushbutton_bin_needs_command" -f -a "dashboard" -d 'Serve the dashboard alone: web pages, HTTP API and metrics, of all handlers and operators'
complete -c pushbutton-bin -n "__fish_pushbutton_bin_needs_command" -f -a "check" -d 'Try every connection, and say what to fix. Changes nothing'
complete -c pushbutton-bin -n "__fish_pushbutton_bin_needs_command" -f -a "health" -d 'Ask the process that runs with this configuration on this host whether it is healthy'
complete -c pushbutton-bin -n "__fish_pushbutton_bin_needs_command" -f -a "lint" -d 'Check a comment, logs, an account and the configuration against OpenStack\'s rules for third-party CIs'
complete -c pushbutton-bin -n "__fish_pushbutton_bin_needs_command" -f -a "init" -d 'Write a configuration with every key explained'
complete -c pushbutton-bin -n "__fish_pushbutton_bin_needs_command" -f -a "replay" -d 'Show what the triggers do with recorded events, and the exact comments. Offline; changes nothing; the same every time'
complete -c pushbutton-bin -n "__fish_pushbutton_bin_needs_command" -f -a "explain" -d 'Explain why a change was run, or was not: each event, each trigger, each condition with what it saw, and what followed. Changes nothing'
complete -c pushbutton-bin -n "__fish_pushbutton_bin_needs_command" -f -a "record" -d 'Record the live event stream, until SIGINT or SIGTERM: one JSON object per line, as `gerrit stream-events` writes it'
complete -c pushbutton-bin -n "__fish_pushbutton_bin_needs_command" -f -a "enqueue" -d 'Enqueue a job for a patch set'
complete -c pushbutton-bin -n "__fish_pushbutton_bin_needs_command" -f -a "rerun" -d 'Enqueue the jobs of a change again, as a `recheck` comment does'
complete -c pushbutton-bin -n "__fish_pushbutton_bin_needs_command" -f -a "cancel" -d 'Cancel jobs, on every operator: running jobs stop and are cleaned up, waiting jobs will not run'
complete -c pushbutton-bin -n "__fish_pushbutton_bin_needs_command" -f -a "dead" -d 'List, requeue or drop dead letters: jobs that no operator will run'
complete -c pushbutton-bin -n "__fish_pushbutton_bin_needs_command" -f -a "reports" -d 'List, retry or drop undelivered reports: results that could not be posted on the review'
complete -c pushbutton-bin -n "__fish_pushbutton_bin_needs_command" -f -a "sweep" -d 'Delete orphans: cloud resources of this installation that belong to no current run'
complete -c pushbutton-bin -n "__fish_pushbutton_bin_needs_command" -f -a "mute" -d 'Stop comments on reviews, on every handler, until `unmute`. Jobs still run, and their reports are kept'
complete -c pushbutton-bin -n "__fish_pushbutton_bin_needs_command" -f -a "unmute" -d 'Allow comments on reviews again, after `mute` or after too many failures in a row'
complete -c pushbutton-bin -n "__fish_pushbutton_bin_needs_command" -f -a "runs" -d 'List the latest runs, of every operator'
complete -c pushbutton-bin -n "__fish_pushbutton_bin_needs_command" -f -a "show" -d 'Show all that is known of one run: its stages, who cancelled it, and what became of its report'
complete -c pushbutton-bin -n "__fish_pushbutton_bin_needs_command" -f -a "status" -d 'Show handlers and operators, the queue, the dead letters, the undelivered reports and the latest runs'
complete -c pushbutton-bin -n "__fish_pushbutton_bin_needs_command" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c pushbutton-bin -n "__fish_pushbutton_bin_using_subcommand run" -l recorded -d 'Run the jobs of this recorded event stream (one JSON object per line, as `gerrit stream-events` writes it), and exit. Comments are printed, not posted' -r -F
complete -c pushbutton-bin -n "__fish_pushbutton_bin_using_subcommand run" -l slots -d 'The number of jobs that run at once. Overrides `operator.slots`' -r
complete -c pushbutton-bin -n "__fish_pushbutton_bin_using_subcommand run" -l wait -d 'How long to wait at start for servers that cannot be reached. A running command waits without a limit' -r
complete -c pushbutton-bin -n "__fish_pushbutton_bin_using_subcommand run" -s c -l config -d 'The configuration file' -r -F
complete -c pushbutton-bin -n "__fish_pushbutton_bin_using_subcommand run" -l log-format -d 'The format of log lines' -r -f -a "human\t'For people: progress on standard output, log lines on standard error'
json\t'For machines: one JSON object per line, on standard error'"
complete -c pushbutton-bin -n "__fish_pushbutton_bin_using_subcommand run" -l log-level -d 'What to log: error, warn, info, debug, trace, or a filter such as `info,pushbutton_gerrit=debug` [default: info]' -r
complete -c pushbutton-bin -n "__fish_pushbutton_bin_using_subcommand run" -l color -d 'Use colors' -r -f -a "auto\t''
always\t''
never\t''"
complete -c pushbutton-bin -n "__fish_pushbutton_bin_using_subcommand run" -l dry-run -d 'Append comments to `comments.txt` in the state folder instead of posting them'
complete -c pushbutton-bin -n "__fish_pushbutton_bin_using_subcommand run" -s v -l verbose -d 'Also print every line of output of the stages'
complete -c pushbutton-bin -n "__fish_pushbutton_bin_using_subcommand run" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c pushbutton-bin -n "__fish_pushbutton_bin_using_subcommand handler" -l wait -d 'How long to wait at start for servers that cannot be reached. A running command waits without a limit' -r
complete -c pushbutton-bin -n "__fish_pushbutton_bin_using_subcommand handler" -s c -l config -d 'The configuration file' -r -F
complete -c pushbutton-bin -n "__fish_pushbutton_bin_using_subcommand handler" -l log-format -d 'The format of log lines' -r -f -a "human\t'For people: progress on standard output, log lines on standard error'
json\t'For machines: one JSON object per line, on standard error'"
complete -c pushbutton-bin -n "__fish_pushbutton_bin_using_subcommand handler" -l log-level -d 'What to log: error, warn, info, debug, trace, or a filter such as `info,pushbutton_gerrit=debug` [default: info]' -r
complete -c pushbutton-bin -n "__fish_pushbutton_bin_using_subcommand handler" -l color -d 'Use colors' -r -f -a "auto\t''
always\t''
never\t''"
complete -c pushbutton-bin -n "__fish_pushbutton_bin_using_subcommand handler" -l dry-run -d 'Append comments to `comments.txt` in the state folder instead of posting them'
complete -c pushbutton-bin -n "__fish_pushbutton_bin_using_subcommand handler" -s v -l verbose -d 'Also print every line of output of the stages'
complete -c pushbutton-bin -n "__fish_pushbutton_bin_using_subcommand handler" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c pushbutton-bin -n "__fish_pushbutton_bin_using_subcommand operator" -l slots -d 'The number of jobs that run at once. Overrides `operator.slots`' -r
complete -c pushbutton-bin -n "__fish_pushbutton_bin_using_subcommand operator" -l wait -d 'How long to wait at start for servers that cannot be reached. A running command waits without a limit' -r
complete -c pushbutton-bin -n "__fish_pushbutton_bin_using_subcommand operator" -s c -l config -d 'The configuration file' -r -F
complete -c pushbutton-bin -n "__fish_pushbutton_bin_using_subcommand operator" -l log-format -d 'The format of log lines' -r -f -a "human\t'For people: progress on standard output, log lines on standard error'
json\t'For machines: one JSON object per line, on standard error'"
complete -c pushbutton-bin -n "__fish_pushbutton_bin_using_subcommand operator" -l log-level -d 'What to log: error, warn, info, debug, trace, or a filter such as `info,pushbutton_gerrit=debug` [default: info]' -r
complete -c pushbutton-bin -n "__fish_pushbutton_bin_using_subcommand operator" -l color -d 'Use colors' -r -f -a "auto\t''
always\t''
never\t''"
complete -c pushbutton-bin -n "__fish_pushbutton_bin_using_subcommand operator" -s v -l verbose -d 'Also print every line of output of the stages'
complete -c pushbutton-bin -n "__fish_pushbutton_bin_using_subcommand operator" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c pushbutton-bin -n "__fish_pushbutton_bin_using_subcommand dashboard" -l wait -d 'How long to wait at start for servers that cannot be reached. A running command waits without a limit' -r
complete -c pushbutton-bin -n "__fish_pushbutton_bin_using_subcommand dashboard" -s c -l config -d 'The configuration file' -r -F
complete -c pushbutton-bin -n "__fish_pushbutton_bin_using_subcommand dashboard" -l log-format -d 'The format of log lines' -r -f -a "human\t'For people: progress on standard output, log lines on standard error'
json\t'For machines: one JSON object per line, on standard error'"
complete -c pushbutton-bin -n "__fish_pushbutton_bin_using_subcommand dashboard" -l log-level -d 'What to log: error, warn, info, debug, trace, or a filter such as `info,pushbutton_gerrit=debug` [default: info]' -r
complete -c pushbutton-bin -n "__fish_pushbutton_bin_using_subcommand dashboard" -l color -d 'Use colors' -r -f -a "auto\t''
always\t''
never\t''"
complete -c pushbutton-bin -n "__fish_pushbutton_bin_using_subcommand dashboard" -s v -l verbose -d 'Also print every line of output of the stages'
complete -c pushbutton-bin -n "__fish_pushbutton_bin_using_subcommand dashboard" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c pushbutton-bin -n "__fish_pushbutton_bin_using_subcommand check" -s c -l config -d 'The configuration file' -r -F
complete -c pushbutton-bin -n "__fish_pushbutton_bin_using_subcommand check" -l log-format -d 'The format of log lines' -r -f -a "human\t'For people: progress on standard output, log lines on standard error'
json\t'For machines: one JSON object per line, on standard error'"
complete -c pushbutton-bin -n "__fish_pushbutton_bin_using_subcommand check" -l log-level -d 'What to log: error, warn, info, debug, trace, or a filter such as `info,pushbutton_gerrit=debug` [default: info]' -r
complete -c pushbutton-bin -n "__fish_pushbutton_bin_using_subcommand check" -l color -d 'Use colors' -r -f -a "auto\t''
always\t''
never\t''"
complete -c pushbutton-bin -n "__fish_pushbutton_bin_using_subcommand check" -l operator -d 'Only what `operator` needs: nothing of Gerrit'
complete -c pushbutton-bin -n "__fish_pushbutton_bin_using_subcommand check" -l handler -d 'Only what `handler` needs: no machines, no playbooks and no logs'
complete -c pushbutton-bin -n "__fish_pushbutton_bin_using_subcommand check" -s v -l verbose -d 'Also print every line of output of the stages'
complete -c pushbutton-bin -n "__fish_pushbutton_bin_using_subcommand check" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c pushbutton-bin -n "__fish_pushbutton_bin_using_subcommand health" -s c -l config -d 'The configuration file' -r -F
complete -c pushbutton-bin -n "__fish_pushbutton_bin_using_subcommand health" -l log-format -d 'The format of log lines' -r -f -a "human\t'For people: progress on standard output, log lines on standard error'
json\t'For machines: one JSON object per line, on standard error'"
complete -c pushbutton-bin -n "__fish_pushbutton_bin_using_subcommand health" -l log-level -d 'What to log: error, warn, info, debug, trace, or a filter such as `info,pushbutton_gerrit=debug` [default: info]' -r
complete -c pushbutton-bin -n "__fish_pushbutton_bin_using_subcommand health" -l color -d 'Use colors' -r -f -a "auto\t''
always\t''
never\t''"
complete -c pushbutton-bin -n "__fish_pushbutton_bin_using_subcommand health" -s v -l verbose -d 'Also print every line of output of the stages'
complete -c pushbutton-bin -n "__fish_pushbutton_bin_using_subcommand health" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c pushbutton-bin -n "__fish_pushbutton_bin_using_subcommand lint" -l comment -d 'The text of a comment; - for standard input' -r -F
complete -c pushbutton-bin -n "__fish_pushbutton_bin_using_subcommand lint" -l logs -d 'A run\'s folder of logs' -r -F
complete -c pushbutton-bin -n "__fish_pushbutton_bin_using_subcommand lint" -l name -d 'The full name of the account' -r
complete -c pushbutton-bin -n "__fish_pushbutton_bin_using_subcommand lint" -l email -d 'The mail address of the account or the wiki page' -r
complete -c pushbutton-bin -n "__fish_pushbutton_bin_using_subcommand lint" -s c -l config -d 'The configuration file' -r -F
complete -c pushbutton-bin -n "__fish_pushbutton_bin_using_subcommand lint" -l log-format -d 'The format of log lines' -r -f -a "human\t'For people: progress on standard output, log lines on standard error'
json\t'For machines: one JSON object per line, on standard error'"
complete -c pushbutton-bin -n "__fish_pushbutton_bin_using_subcommand lint" -l log-level -d 'What to log: error, warn, info, debug, trace, or a filter such as `info,pushbutton_gerrit=debug` [default: info]' -r
complete -c pushbutton-bin -n "__fish_pushbutton_bin_using_subcommand lint" -l color -d 'Use colors' -r -f -a "auto\t''
always\t''
never\t''"
complete -c pushbutton-bin -n "__fish_pushbutton_bin_using_subcommand lint" -l json -d 'One JSON object per finding'
complete -c pushbutton-bin -n "__fish_pushbutton_bin_using_subcommand lint" -l rules -d 'List all rules with their sources instead; those with - are for people to check'
complete -c pushbutton-bin -n "__fish_pushbutton_bin_using_subcommand lint" -s v -l verbose -d 'Also print every line of output of the stages'
complete -c pushbutton-bin -n "__fish_pushbutton_bin_using_subcommand lint" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c pushbutton-bin -n "__fish_pushbutton_bin_using_subcommand init" -l from-env -d 'Fill in the settings of pushbutton-ci (`ci.env`, `vars.yaml`) or sos-ci (`sos-ci.conf`, `sos-ci.yaml`), and list those that have no counterpart' -r -F
complete -c pushbutton-bin -n "__fish_pushbutton_bin_using_subcommand init" -l compose -d 'Write a folder for docker-compose instead: docker-compose.yml, .env, pushbutton.yml, and files for the secrets' -r -F
complete -c pushbutton-bin -n "__fish_pushbutton_bin_using_subcommand init" -s c -l config -d 'The configuration file' -r -F
complete -c pushbutton-bin -n "__fish_pushbutton_bin_using_subcommand init" -l log-format -d 'The format of log lines' -r -f -a "human\t'For people: progress on standard output, log lines on standard error'
json\t'For machines: one JSON object per line, on standard error'"
complete -c pushbutton-bin -n "__fish_pushbutton_bin_using_subcommand init" -l log-level -d 'What to log: error, warn, info, debug, trace, or a filter such as `info,pushbutton_gerrit=debug` [default: info]' -r
complete -c pushbutton-bin -n "__fish_pushbutton_bin_using_subcommand init" -l color -d 'Use colors' -r -f -a "auto\t''
always\t''
never\t''"
complete -c pushbutton-bin -n "__fish_pushbutton_bin_using_subcommand init" -s v -l verbose -d 'Also print every line of output of the stages'
complete -c pushbutton-bin -n "__fish_pushbutton_bin_using_subcommand init" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c pushbutton-bin -n "__fish_pushbutton_bin_using_subcommand replay" -l verdict -d 'The assumed result of every job' -r -f -a "success\t'Every stage passed'
failure\t'The tests failed'
node-failure\t'No machine could be created'
retry-limit\t'The infrastructure failed on every attempt'
timed-out\t'The time limit passed'
post-failure\t'The logs could not be published'"
complete -c pushbutton-bin -n "__fish_pushbutton_bin_using_subcommand replay" -s c -l config -d 'The configuration file' -r -F
complete -c pushbutton-bin -n "__fish_pushbutton_bin_using_subcommand replay" -l log-format -d 'The format of log lines' -r -f -a "human\t'For people: progress on standard output, log lines on standard error'
json\t'For machines: one JSON object per line, on standard error'"
complete -c pushbutton-bin -n "__fish_pushbutton_bin_using_subcommand replay" -l log-level -d 'What to log: error, warn, info, debug, trace, or a filter such as `info,pushbutton_gerrit=debug` [default: info]' -r
complete -c pushbutton-bin -n "__fish_pushbutton_bin_using_subcommand replay" -l color -d 'Use colors' -r -f -a "auto\t''
always\t''
never\t''"
complete -c pushbutton-bin -n "__fish_pushbutton_bin_using_subcommand replay" -s v -l verbose -d 'Also print every line of output of the stages'
complete -c pushbutton-bin -n "__fish_pushbutton_bin_using_subcommand replay" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c pushbutton-bin -n "__fish_pushbutton_bin_using_subcommand explain" -l recorded -d 'Read this recorded event stream instead of the live Gerrit' -r -F
complete -c pushbutton-bin -n "__fish_pushbutton_bin_using_subcommand explain" -s c -l config -d 'The configuration file' -r -F
complete -c pushbutton-bin -n "__fish_pushbutton_bin_using_subcommand explain" -l log-format -d 'The format of log lines' -r -f -a "human\t'For people: progress on standard output, log lines on standard error'
json\t'For machines: one JSON object per line, on standard error'"
complete -c pushbutton-bin -n "__fish_pushbutton_bin_using_subcommand explain" -l log-level -d 'What to log: error, warn, info, debug, trace, or a filter such as `info,pushbutton_gerrit=debug` [default: info]' -r
complete -c pushbutton-bin -n "__fish_pushbutton_bin_using_subcommand explain" -l color -d 'Use colors' -r -f -a "auto\t''
always\t''
never\t''"
complete -c pushbutton-bin -n "__fish_pushbutton_bin_using_subcommand explain" -l json -d 'One JSON object per event, with everything that is known'
complete -c pushbutton-bin -n "__fish_pushbutton_bin_using_subcommand explain" -s v -l verbose -d 'Also print every line of output of the stages'
complete -c pushbutton-bin -n "__fish_pushbutton_bin_using_subcommand explain" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c pushbutton-bin -n "__fish_pushbutton_bin_using_subcommand record" -s c -l config -d 'The configuration file' -r -F
complete -c pushbutton-bin -n "__fish_pushbutton_bin_using_subcommand record" -l log-format -d 'The format of log lines' -r -f -a "human\t'For people: progress on standard output, log lines on standard error'
json\t'For machines: one JSON object per line, on standard error'"
complete -c pushbutton-bin -n "__fish_pushbutton_bin_using_subcommand record" -l log-level -d 'What to log: error, warn, info, debug, trace, or a filter such as `info,pushbutton_gerrit=debug` [default: info]' -r
complete -c pushbutton-bin -n "__fish_pushbutton_bin_using_subcommand record" -l color -d 'Use colors' -r -f -a "auto\t''
always\t''
never\t''"
complete -c pushbutton-bin -n "__fish_pushbutton_bin_using_subcommand record" -s v -l verbose -d 'Also print every line of output of the stages'
complete -c pushbutton-bin -n "__fish_pushbutton_bin_using_subcommand record" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c pushbutton-bin -n "__fish_pushbutton_bin_using_subcommand enqueue" -l job -d 'Only this job. Default: all jobs of the triggers for the change\'s project and branch' -r
complete -c pushbutton-bin -n "__fish_pushbutton_bin_using_subcommand enqueue" -s c -l config -d 'The configuration file' -r -F
complete -c pushbutton-bin -n "__fish_pushbutton_bin_using_subcommand enqueue" -l log-format -d 'The format of log lines' -r -f -a "human\t'For people: progress on standard output, log lines on standard error'
json\t'For machines: one JSON object per line, on standard error'"
complete -c pushbutton-bin -n "__fish_pushbutton_bin_using_subcommand enqueue" -l log-level -d 'What to log: error, warn, info, debug, trace, or a filter such as `info,pushbutton_gerrit=debug` [default: info]' -r
complete -c pushbutton-bin -n "__fish_pushbutton_bin_using_subcommand enqueue" -l color -d 'Use colors' -r -f -a "auto\t''
always\t''
never\t''"
complete -c pushbutton-bin -n "__fish_pushbutton_bin_using_subcommand enqueue" -s v -l verbose -d 'Also print every line of output of the stages'
complete -c pushbutton-bin -n "__fish_pushbutton_bin_using_subcommand enqueue" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c pushbutton-bin -n "__fish_pushbutton_bin_using_subcommand rerun" -l job -d 'Only this job. Default: all jobs of the triggers for the change\'s project and branch' -r
complete -c pushbutton-bin -n "__fish_pushbutton_bin_using_subcommand rerun" -s c -l config -d 'The configuration file' -r -F
complete -c pushbutton-bin -n "__fish_pushbutton_bin_using_subcommand rerun" -l log-format -d 'The format of log lines' -r -f -a "human\t'For people: progress on standard output, log lines on standard error'
json\t'For machines: one JSON object per line, on standard error'"
complete -c pushbutton-bin -n "__fish_pushbutton_bin_using_subcommand rerun" -l log-level -d 'What to log: error, warn, info, debug, trace, or a filter such as `info,pushbutton_gerrit=debug` [default: info]' -r
complete -c pushbutton-bin -n "__fish_pushbutton_bin_using_subcommand rerun" -l color -d 'Use colors' -r -f -a "auto\t''
always\t''
never\t''"
complete -c pushbutton-bin -n "__fish_pushbutton_bin_using_subcommand rerun" -s v -l verbose -d 'Also print every line of output of the stages'
complete -c pushbutton-bin -n "__fish_pushbutton_bin_using_subcommand rerun" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c pushbutton-bin -n "__fish_pushbutton_bin_using_subcommand cancel" -l job -d 'Only the job of this name' -r
complete -c pushbutton-bin -n "__fish_pushbutton_bin_using_subcommand cancel" -s c -l config -d 'The configuration file' -r -F
complete -c pushbutton-bin -n "__fish_pushbutton_bin_using_subcommand cancel" -l log-format -d 'The format of log lines' -r -f -a "human\t'For people: progress on standard output, log lines on standard error'
json\t'For machines: one JSON object per line, on standard error'"
complete -c pushbutton-bin -n "__fish_pushbutton_bin_using_subcommand cancel" -l log-level -d 'What to log: error, warn, info, debug, trace, or a filter such as `info,pushbutton_gerrit=debug` [default: info]' -r
complete -c pushbutton-bin -n "__fish_pushbutton_bin_using_subcommand cancel" -l color -d 'Use colors' -r -f -a "auto\t''
always\t''
never\t''"
complete -c pushbutton-bin -n "__fish_pushbutton_bin_using_subcommand cancel" -s v -l verbose -d 'Also print every line of output of the stages'
complete -c pushbutton-bin -n "__fish_pushbutton_bin_using_subcommand cancel" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c pushbutton-bin -n "__fish_pushbutton_bin_using_subcommand dead; and not __fish_seen_subcommand_from list requeue drop help" -s c -l config -d 'The configuration file' -r -F
complete -c pushbutton-bin -n "__fish_pushbutton_bin_using_subcommand dead; and not __fish_seen_subcommand_from list requeue drop help" -l log-format -d 'The format of log lines' -r -f -a "human\t'For people: progress on standard output, log lines on standard error'
json\t'For machines: one JSON object per line, on standard error'"
complete -c pushbutton-bin -n "__fish_pushbutton_bin_using_subcommand dead; and not __fish_seen_subcommand_from list requeue drop help" -l log-level -d 'What to log: error, warn, info, debug, trace, or a filter such as `info,pushbutton_gerrit=debug` [default: info]' -r
complete -c pushbutton-bin -n "__fish_pushbutton_bin_using_subcommand dead; and not __fish_seen_subcommand_from list requeue drop help" -l color -d 'Use colors' -r -f -a "auto\t''
always\t''
never\t''"
complete -c pushbutton-bin -n "__fish_pushbutton_bin_using_subcommand dead; and not __fish_seen_subcommand_from list requeue drop help" -s v -l verbose -d 'Also print every line of output of the stages'
complete -c pushbutton-bin -n "__fish_pushbutton_bin_using_subcommand dead; and not __fish_seen_subcommand_from list requeue drop help" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c pushbutton-bin -n "__fish_pushbutton_bin_using_subcommand dead; and not __fish_seen_subcommand_from list requeue drop help" -f -a "list" -d 'List dead letters, the oldest first'
complete -c pushbutton-bin -n "__fish_pushbutton_bin_using_subcommand dead; and not __fish_seen_subcommand_from list requeue drop help" -f -a "requeue" -d 'Put their jobs back on the queue, with all their attempts'
complete -c pushbutton-bin -n "__fish_pushbutton_bin_using_subcommand dead; and not __fish_seen_subcommand_from list requeue drop help" -f -a "drop" -d 'Delete them; their jobs will not run'
complete -c pushbutton-bin -n "__fish_pushbutton_bin_using_subcommand dead; and not __fish_seen_subcommand_from list requeue drop help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c pushbutton-bin -n "__fish_pushbutton_bin_using_subcommand dead; and __fish_seen_subcommand_from list" -l last -d 'The number of dead letters to show' -r
complete -c pushbutton-bin -n "__fish_pushbutton_bin_using_subcommand dead; and __fish_seen_subcommand_from list" -s c -l config -d 'The configuration file' -r -F
complete -c pushbutton-bin -n "__fish_pushbutton_bin_using_subcommand dead; and __fish_seen_subcommand_from list" -l log-format -d 'The format of log lines' -r -f -a "human\t'For people: progress on standard output, log lines on standard error'
json\t'For machines: one JSON object per line, on standard error'"
complete -c pushbutton-bin -n "__fish_pushbutton_bin_using_subcommand dead; and __fish_seen_subcommand_from list" -l log-level -d 'What to log: error, warn, info, debug, trace, or a filter such as `info,pushbutton_gerrit=debug` [default: info]' -r
complete -c pushbutton-bin -n "__fish_pushbutton_bin_using_subcommand dead; and __fish_seen_subcommand_from list" -l color -d 'Use colors' -r -f -a "auto\t''
always\t''
never\t''"
complete -c pushbutton-bin -n "__fish_pushbutton_bin_using_subcommand dead; and __fish_seen_subcommand_from list" -s v -l verbose -d 'Also print every line of output of the stages'
complete -c pushbutton-bin -n "__fish_pushbutton_bin_using_subcommand dead; and __fish_seen_subcommand_from list" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c pushbutton-bin -n "__fish_pushbutton_bin_using_subcommand dead; and __fish_seen_subcommand_from requeue" -s c -l config -d 'The configuration file' -r -F
complete -c pushbutton-bin -n "__fish_pushbutton_bin_using_subcommand dead; and __fish_seen_subcommand_from requeue" -l log-format -d 'The format of log lines' -r -f -a "human\t'For people: progress on standard output, log lines on standard error'
json\t'For machines: one JSON object per line, on standard error'"
complete -c pushbutton-bin -n "__fish_pushbutton_bin_using_subcommand dead; and __fish_seen_subcommand_from requeue" -l log-level -d 'What to log: error, warn, info, debug, trace, or a filter such as `info,pushbutton_gerrit=debug` [default: info]' -r
complete -c pushbutton-bin -n "__fish_pushbutton_bin_using_subcommand dead; and __fish_seen_subcommand_from requeue" -l color -d 'Use colors' -r -f -a "auto\t''
always\t''
never\t''"
complete -c pushbutton-bin -n "__fish_pushbutton_bin_using_subcommand dead; and __fish_seen_subcommand_from requeue" -l all -d 'All of them'
complete -c pushbutton-bin -n "__fish_pushbutton_bin_using_subcommand dead; and __fish_seen_subcommand_from requeue" -s v -l verbose -d 'Also print every line of output of the stages'
complete -c pushbutton-bin -n "__fish_pushbutton_bin_using_subcommand dead; and __fish_seen_subcommand_from requeue" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c pushbutton-bin -n "__fish_pushbutton_bin_using_subcommand dead; and __fish_seen_subcommand_from drop" -s c -l config -d 'The configuration file' -r -F
complete -c pushbutton-bin -n "__fish_pushbutton_bin_using_subcommand dead; and __fish_seen_subcommand_from drop" -l log-format -d 'The format of log lines' -r -f -a "human\t'For people: progress on standard output, log lines on standard error'
json\t'For machines: one JSON object per line, on standard error'"
complete -c pushbutton-bin -n "__fish_pushbutton_bin_using_subcommand dead; and __fish_seen_subcommand_from drop" -l log-level -d 'What to log: error, warn, info, debug, trace, or a filter such as `info,pushbutton_gerrit=debug` [default: info]' -r
complete -c pushbutton-bin -n "__fish_pushbutton_bin_using_subcommand dead; and __fish_seen_subcommand_from drop" -l color -d 'Use colors' -r -f -a "auto\t''
always\t''
never\t''"
complete -c pushbutton-bin -n "__fish_pushbutton_bin_using_subcommand dead; and __fish_seen_subcommand_from drop" -l all -d 'All of them'
complete -c pushbutton-bin -n "__fish_pushbutton_bin_using_subcommand dead; and __fish_seen_subcommand_from drop" -s v -l verbose -d 'Also print every line of output of the stages'
complete -c pushbutton-bin -n "__fish_pushbutton_bin_using_subcommand dead; and __fish_seen_subcommand_from drop" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c pushbutton-bin -n "__fish_pushbutton_bin_using_subcommand dead; and __fish_seen_subcommand_from help" -f -a "list" -d 'List dead letters, the oldest first'
complete -c pushbutton-bin -n "__fish_pushbutton_bin_using_subcommand dead; and __fish_seen_subcommand_from help" -f -a "requeue" -d 'Put their jobs back on the queue, with all their attempts'
complete -c pushbutton-bin -n "__fish_pushbutton_bin_using_subcommand dead; and __fish_seen_subcommand_from help" -f -a "drop" -d 'Delete them; their jobs will not run'
complete -c pushbutton-bin -n "__fish_pushbutton_bin_using_subcommand dead; and __fish_seen_subcommand_from help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c pushbutton-bin -n "__fish_pushbutton_bin_using_subcommand reports; and not __fish_seen_subcommand_from list retry drop help" -s c -l config -d 'The configuration file' -r -F
complete -c pushbutton-bin -n "__fish_pushbutton_bin_using_subcommand reports; and not __fish_seen_subcommand_from list retry drop help" -l log-format -d 'The format of log lines' -r -f -a "human\t'For people: progress on standard output, log lines on standard error'
json\t'For machines: one JSON object per line, on standard error'"
complete -c pushbutton-bin -n "__fish_pushbutton_bin_using_subcommand reports; and not __fish_seen_subcommand_from list retry drop help" -l log-level -d 'What to log: error, warn, info, debug, trace, or a filter such as `info,pushbutton_gerrit=debug` [default: info]' -r
complete -c pushbutton-bin -n "__fish_pushbutton_bin_using_subcommand reports; and not __fish_seen_subcommand_from list retry drop help" -l color -d 'Use colors' -r -f -a "auto\t''
always\t''
never\t''"
complete -c pushbutton-bin -n "__fish_pushbutton_bin_using_subcommand reports; and not __fish_seen_subcommand_from list retry drop help" -s v -l verbose -d 'Also print every line of output of the stages'
complete -c pushbutton-bin -n "__fish_pushbutton_bin_using_subcommand reports; and not __fish_seen_subcommand_from list retry drop help" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c pushbutton-bin -n "__fish_pushbutton_bin_using_subcommand reports; and not __fish_seen_subcommand_from list retry drop help" -f -a "list" -d 'List undelivered reports, the oldest first'
complete -c pushbutton-bin -n "__fish_pushbutton_bin_using_subcommand reports; and not __fish_seen_subcommand_from list retry drop help" -f -a "retry" -d 'Deliver them again'
complete -c pushbutton-bin -n "__fish_pushbutton_bin_using_subcommand reports; and not __fish_seen_subcommand_from list retry drop help" -f -a "drop" -d 'Delete them; nothing is posted'
complete -c pushbutton-bin -n "__fish_pushbutton_bin_using_subcommand reports; and not __fish_seen_subcommand_from list retry drop help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c pushbutton-bin -n "__fish_pushbutton_bin_using_subcommand reports; and __fish_seen_subcommand_from list" -l last -d 'The number of reports to show' -r
complete -c pushbutton-bin -n "__fish_pushbutton_bin_using_subcommand reports; and __fish_seen_subcommand_from list" -s c -l config -d 'The configuration file' -r -F
complete -c pushbutton-bin -n "__fish_pushbutton_bin_using_subcommand reports; and __fish_seen_subcommand_from list" -l log-format -d 'The format of log lines' -r -f -a "human\t'For people: progress on standard output, log lines on standard error'
json\t'For machines: one JSON object per line, on standard error'"
complete -c pushbutton-bin -n "__fish_pushbutton_bin_using_subcommand reports; and __fish_seen_subcommand_from list" -l log-level -d 'What to log: error, warn, info, debug, trace, or a filter such as `info,pushbutton_gerrit=debug` [default: info]' -r
complete -c pushbutton-bin -n "__fish_pushbutton_bin_using_subcommand reports; and __fish_seen_subcommand_from list" -l color -d 'Use colors' -r -f -a "auto\t''
always\t''
never\t''"
complete -c pushbutton-bin -n "__fish_pushbutton_bin_using_subcommand reports; and __fish_seen_subcommand_from list" -l json -d 'One JSON object per line, with everything that is known'
complete -c pushbutton-bin -n "__fish_pushbutton_bin_using_subcommand reports; and __fish_seen_subcommand_from list" -s v -l verbose -d 'Also print every line of output of the stages'
complete -c pushbutton-bin -n "__fish_pushbutton_bin_using_subcommand reports; and __fish_seen_subcommand_from list" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c pushbutton-bin -n "__fish_pushbutton_bin_using_subcommand reports; and __fish_seen_subcommand_from retry" -s c -l config -d 'The configuration file' -r -F
complete -c pushbutton-bin -n "__fish_pushbutton_bin_using_subcommand reports; and __fish_seen_subcommand_from retry" -l log-format -d 'The format of log lines' -r -f -a "human\t'For people: progress on standard output, log lines on standard error'
json\t'For machines: one JSON object per line, on standard error'"
complete -c pushbutton-bin -n "__fish_pushbutton_bin_using_subcommand reports; and __fish_seen_subcommand_from retry" -l log-level -d 'What to log: error, warn, info, debug, trace, or a filter such as `info,pushbutton_gerrit=debug` [default: info]' -r
complete -c pushbutton-bin -n "__fish_pushbutton_bin_using_subcommand reports; and __fish_seen_subcommand_from retry" -l color -d 'Use colors' -r -f -a "auto\t''
always\t''
never\t''"
complete -c pushbutton-bin -n "__fish_pushbutton_bin_using_subcommand reports; and __fish_seen_subcommand_from retry" -l all -d 'All of them'
complete -c pushbutton-bin -n "__fish_pushbutton_bin_using_subcommand reports; and __fish_seen_subcommand_from retry" -s v -l verbose -d 'Also print every line of output of the stages'
complete -c pushbutton-bin -n "__fish_pushbutton_bin_using_subcommand reports; and __fish_seen_subcommand_from retry" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c pushbutton-bin -n "__fish_pushbutton_bin_using_subcommand reports; and __fish_seen_subcommand_from drop" -s c -l config -d 'The configuration file' -r -F
complete -c pushbutton-bin -n "__fish_pushbutton_bin_using_subcommand reports; and __fish_seen_subcommand_from drop" -l log-format -d 'The format of log lines' -r -f -a "human\t'For people: progress on standard output, log lines on standard error'
json\t'For machines: one JSON object per line, on standard error'"
complete -c pushbutton-bin -n "__fish_pushbutton_bin_using_subcommand reports; and __fish_seen_subcommand_from drop" -l log-level -d 'What to log: error, warn, info, debug, trace, or a filter such as `info,pushbutton_gerrit=debug` [default: info]' -r
complete -c pushbutton-bin -n "__fish_pushbutton_bin_using_subcommand reports; and __fish_seen_subcommand_from drop" -l color -d 'Use colors' -r -f -a "auto\t''
always\t''
never\t''"
complete -c pushbutton-bin -n "__fish_pushbutton_bin_using_subcommand reports; and __fish_seen_subcommand_from drop" -l all -d 'All of them'
complete -c pushbutton-bin -n "__fish_pushbutton_bin_using_subcommand reports; and __fish_seen_subcommand_from drop" -s v -l verbose -d 'Also print every line of output of the stages'
complete -c pushbutton-bin -n "__fish_pushbutton_bin_using_subcommand reports; and __fish_seen_subcommand_from drop" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c pushbutton-bin -n "__fish_pushbutton_bin_using_subcommand reports; and __fish_seen_subcommand_from help" -f -a "list" -d 'List undelivered reports, the oldest first'
complete -c pushbutton-bin -n "__fish_pushbutton_bin_using_subcommand reports; and __fish_seen_subcommand_from help" -f -a "retry" -d 'Deliver them again'
complete -c pushbutton-bin -n "__fish_pushbutton_bin_using_subcommand reports; and __fish_seen_subcommand_from help" -f -a "drop" -d 'Delete them; nothing is posted'
complete -c pushbutton-bin -n "__fish_pushbutton_bin_using_subcommand reports; and __fish_seen_subcommand_from help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c pushbutton-bin -n "__fish_pushbutton_bin_using_subcommand sweep" -s c -l config -d 'The configuration file' -r -F
complete -c pushbutton-bin -n "__fish_pushbutton_bin_using_subcommand sweep" -l log-format -d 'The format of log lines' -r -f -a "human\t'For people: progress on standard output, log lines on standard error'
json\t'For machines: one JSON object per line, on standard error'"
complete -c pushbutton-bin -n "__fish_pushbutton_bin_using_subcommand sweep" -l log-level -d 'What to log: error, warn, info, debug, trace, or a filter such as `info,pushbutton_gerrit=debug` [default: info]' -r
complete -c pushbutton-bin -n "__fish_pushbutton_bin_using_subcommand sweep" -l color -d 'Use colors' -r -f -a "auto\t''
always\t''
never\t''"
complete -c pushbutton-bin -n "__fish_pushbutton_bin_using_subcommand sweep" -l dry-run -d 'Only list the orphans'
complete -c pushbutton-bin -n "__fish_pushbutton_bin_using_subcommand sweep" -s v -l verbose -d 'Also print every line of output of the stages'
complete -c pushbutton-bin -n "__fish_pushbutton_bin_using_subcommand sweep" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c pushbutton-bin -n "__fish_pushbutton_bin_using_subcommand mute" -l why -d 'The reason, for the other people of the lab' -r
complete -c pushbutton-bin -n "__fish_pushbutton_bin_using_subcommand mute" -s c -l config -d 'The configuration file' -r -F
complete -c pushbutton-bin -n "__fish_pushbutton_bin_using_subcommand mute" -l log-format -d 'The format of log lines' -r -f -a "human\t'For people: progress on standard output, log lines on standard error'
json\t'For machines: one JSON object per line, on standard error'"
complete -c pushbutton-bin -n "__fish_pushbutton_bin_using_subcommand mute" -l log-level -d 'What to log: error, warn, info, debug, trace, or a filter such as `info,pushbutton_gerrit=debug` [default: info]' -r
complete -c pushbutton-bin -n "__fish_pushbutton_bin_using_subcommand mute" -l color -d 'Use colors' -r -f -a "auto\t''
always\t''
never\t''"
complete -c pushbutton-bin -n "__fish_pushbutton_bin_using_subcommand mute" -s v -l verbose -d 'Also print every line of output of the stages'
complete -c pushbutton-bin -n "__fish_pushbutton_bin_using_subcommand mute" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c pushbutton-bin -n "__fish_pushbutton_bin_using_subcommand unmute" -s c -l config -d 'The configuration file' -r -F
complete -c pushbutton-bin -n "__fish_pushbutton_bin_using_subcommand unmute" -l log-format -d 'The format of log lines' -r -f -a "human\t'For people: progress on standard output, log lines on standard error'
json\t'For machines: one JSON object per line, on standard error'"
complete -c pushbutton-bin -n "__fish_pushbutton_bin_using_subcommand unmute" -l log-level -d 'What to log: error, warn, info, debug, trace, or a filter such as `info,pushbutton_gerrit=debug` [default: info]' -r
complete -c pushbutton-bin -n "__fish_pushbutton_bin_using_subcommand unmute" -l color -d 'Use colors' -r -f -a "auto\t''
always\t''
never\t''"
complete -c pushbutton-bin -n "__fish_pushbutton_bin_using_subcommand unmute" -s v -l verbose -d 'Also print every line of output of the stages'
complete -c pushbutton-bin -n "__fish_pushbutton_bin_using_subcommand unmute" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c pushbutton-bin -n "__fish_pushbutton_bin_using_subcommand runs" -l last -d 'The number of runs to show' -r
complete -c pushbutton-bin -n "__fish_pushbutton_bin_using_subcommand runs" -s c -l config -d 'The configuration file' -r -F
complete -c pushbutton-bin -n "__fish_pushbutton_bin_using_subcommand runs" -l log-format -d 'The format of log lines' -r -f -a "human\t'For people: progress on standard output, log lines on standard error'
json\t'For machines: one JSON object per line, on standard error'"
complete -c pushbutton-bin -n "__fish_pushbutton_bin_using_subcommand runs" -l log-level -d 'What to log: error, warn, info, debug, trace, or a filter such as `info,pushbutton_gerrit=debug` [default: info]' -r
complete -c pushbutton-bin -n "__fish_pushbutton_bin_using_subcommand runs" -l color -d 'Use colors' -r -f -a "auto\t''
always\t''
never\t''"
complete -c pushbutton-bin -n "__fish_pushbutton_bin_using_subcommand runs" -l json -d 'One JSON object per line, with everything that is known'
complete -c pushbutton-bin -n "__fish_pushbutton_bin_using_subcommand runs" -s v -l verbose -d 'Also print every line of output of the stages'
complete -c pushbutton-bin -n "__fish_pushbutton_bin_using_subcommand runs" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c pushbutton-bin -n "__fish_pushbutton_bin_using_subcommand show" -s c -l config -d 'The configuration file' -r -F
complete -c pushbutton-bin -n "__fish_pushbutton_bin_using_subcommand show" -l log-format -d 'The format of log lines' -r -f -a "human\t'For people: progress on standard output, log lines on standard error'
json\t'For machines: one JSON object per line, on standard error'"
complete -c pushbutton-bin -n "__fish_pushbutton_bin_using_subcommand show" -l log-level -d 'What to log: error, warn, info, debug, trace, or a filter such as `info,pushbutton_gerrit=debug` [default: info]' -r
complete -c pushbutton-bin -n "__fish_pushbutton_bin_using_subcommand show" -l color -d 'Use colors' -r -f -a "auto\t''
always\t''
never\t''"
complete -c pushbutton-bin -n "__fish_pushbutton_bin_using_subcommand show" -l json -d 'One JSON object'
complete -c pushbutton-bin -n "__fish_pushbutton_bin_using_subcommand show" -s v -l verbose -d 'Also print every line of output of the stages'
complete -c pushbutton-bin -n "__fish_pushbutton_bin_using_subcommand show" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c pushbutton-bin -n "__fish_pushbutton_bin_using_subcommand status" -l last -d 'The number of runs, dead letters and undelivered reports to show' -r
complete -c pushbutton-bin -n "__fish_pushbutton_bin_using_subcommand status" -s c -l config -d 'The configuration file' -r -F
complete -c pushbutton-bin -n "__fish_pushbutton_bin_using_subcommand status" -l log-format -d 'The format of log lines' -r -f -a "human\t'For people: progress on standard output, log lines on standard error'
json\t'For machines: one JSON object per line, on standard error'"
complete -c pushbutton-bin -n "__fish_pushbutton_bin_using_subcommand status" -l log-level -d 'What to log: error, warn, info, debug, trace, or a filter such as `info,pushbutton_gerrit=debug` [default: info]' -r
complete -c pushbutton-bin -n "__fish_pushbutton_bin_using_subcommand status" -l color -d 'Use colors' -r -f -a "auto\t''
always\t''
never\t''"
complete -c pushbutton-bin -n "__fish_pushbutton_bin_using_subcommand status" -l json -d 'One JSON object, with everything that is known'
complete -c pushbutton-bin -n "__fish_pushbutton_bin_using_subcommand status" -s v -l verbose -d 'Also print every line of output of the stages'
complete -c pushbutton-bin -n "__fish_pushbutton_bin_using_subcommand status" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c pushbutton-bin -n "__fish_pushbutton_bin_using_subcommand help; and not __fish_seen_subcommand_from run handler operator dashboard check health lint init replay explain record enqueue rerun cancel dead reports sweep mute unmute runs show status help" -f -a "run" -d 'Run the whole CI in one process: handler and operator'
complete -c pushbutton-bin -n "__fish_pushbutton_bin_using_subcommand help; and not __fish_seen_subcommand_from run handler operator dashboard check health lint init replay explain record enqueue rerun cancel dead reports sweep mute unmute runs show status help" -f -a "handler" -d 'Run the ingest half: read events from Gerrit, put jobs on the queue, and post comments with their results'
complete -c pushbutton-bin -n "__fish_pushbutton_bin_using_subcommand help; and not __fish_seen_subcommand_from run handler operator dashboard check health lint init replay explain record enqueue rerun cancel dead reports sweep mute unmute runs show status help" -f -a "operator" -d 'Run the work half: claim jobs from the queue and run them'
complete -c pushbutton-bin -n "__fish_pushbutton_bin_using_subcommand help; and not __fish_seen_subcommand_from run handler operator dashboard check health lint init replay explain record enqueue rerun cancel dead reports sweep mute unmute runs show status help" -f -a "dashboard" -d 'Serve the dashboard alone: web pages, HTTP API and metrics, of all handlers and operators'
complete -c pushbutton-bin -n "__fish_pushbutton_bin_using_subcommand help; and not __fish_seen_subcommand_from run handler operator dashboard check health lint init replay explain record enqueue rerun cancel dead reports sweep mute unmute runs show status help" -f -a "check" -d 'Try every connection, and say what to fix. Changes nothing'
complete -c pushbutton-bin -n "__fish_pushbutton_bin_using_subcommand help; and not __fish_seen_subcommand_from run handler operator dashboard check health lint init replay explain record enqueue rerun cancel dead reports sweep mute unmute runs show status help" -f -a "health" -d 'Ask the process that runs with this configuration on this host whether it is healthy'
complete -c pushbutton-bin -n "__fish_pushbutton_bin_using_subcommand help; and not __fish_seen_subcommand_from run handler operator dashboard check health lint init replay explain record enqueue rerun cancel dead reports sweep mute unmute runs show status help" -f -a "lint" -d 'Check a comment, logs, an account and the configuration against OpenStack\'s rules for third-party CIs'
complete -c pushbutton-bin -n "__fish_pushbutton_bin_using_subcommand help; and not __fish_seen_subcommand_from run handler operator dashboard check health lint init replay explain record enqueue rerun cancel dead reports sweep mute unmute runs show status help" -f -a "init" -d 'Write a configuration with every key explained'
complete -c pushbutton-bin -n "__fish_pushbutton_bin_using_subcommand help; and not __fish_seen_subcommand_from run handler operator dashboard check health lint init replay explain record enqueue rerun cancel dead reports sweep mute unmute runs show status help" -f -a "replay" -d 'Show what the triggers do with recorded events, and the exact comments. Offline; changes nothing; the same every time'
complete -c pushbutton-bin -n "__fish_pushbutton_bin_using_subcommand help; and not __fish_seen_subcommand_from run handler operator dashboard check health lint init replay explain record enqueue rerun cancel dead reports sweep mute unmute runs show status help" -f -a "explain" -d 'Explain why a change was run, or was not: each event, each trigger, each condition with what it saw, and what followed. Changes nothing'
complete -c pushbutton-bin -n "__fish_pushbutton_bin_using_subcommand help; and not __fish_seen_subcommand_from run handler operator dashboard check health lint init replay explain record enqueue rerun cancel dead reports sweep mute unmute runs show status help" -f -a "record" -d 'Record the live event stream, until SIGINT or SIGTERM: one JSON object per line, as `gerrit stream-events` writes it'
complete -c pushbutton-bin -n "__fish_pushbutton_bin_using_subcommand help; and not __fish_seen_subcommand_from run handler operator dashboard check health lint init replay explain record enqueue rerun cancel dead reports sweep mute unmute runs show status help" -f -a "enqueue" -d 'Enqueue a job for a patch set'
complete -c pushbutton-bin -n "__fish_pushbutton_bin_using_subcommand help; and not __fish_seen_subcommand_from run handler operator dashboard check health lint init replay explain record enqueue rerun cancel dead reports sweep mute unmute runs show status help" -f -a "rerun" -d 'Enqueue the jobs of a change again, as a `recheck` comment does'
complete -c pushbutton-bin -n "__fish_pushbutton_bin_using_subcommand help; and not __fish_seen_subcommand_from run handler operator dashboard check health lint init replay explain record enqueue rerun cancel dead reports sweep mute unmute runs show status help" -f -a "cancel" -d 'Cancel jobs, on every operator: running jobs stop and are cleaned up, waiting jobs will not run'
complete -c pushbutton-bin -n "__fish_pushbutton_bin_using_subcommand help; and not __fish_seen_subcommand_from run handler operator dashboard check health lint init replay explain record enqueue rerun cancel dead reports sweep mute unmute runs show status help" -f -a "dead" -d 'List, requeue or drop dead letters: jobs that no operator will run'
complete -c pushbutton-bin -n "__fish_pushbutton_bin_using_subcommand help; and not __fish_seen_subcommand_from run handler operator dashboard check health lint init replay explain record enqueue rerun cancel dead reports sweep mute unmute runs show status help" -f -a "reports" -d 'List, retry or drop undelivered reports: results that could not be posted on the review'
complete -c pushbutton-bin -n "__fish_pushbutton_bin_using_subcommand help; and not __fish_seen_subcommand_from run handler operator dashboard check health lint init replay explain record enqueue rerun cancel dead reports sweep mute unmute runs show status help" -f -a "sweep" -d 'Delete orphans: cloud resources of this installation that belong to no current run'
complete -c pushbutton-bin -n "__fish_pushbutton_bin_using_subcommand help; and not __fish_seen_subcommand_from run handler operator dashboard check health lint init replay explain record enqueue rerun cancel dead reports sweep mute unmute runs show status help" -f -a "mute" -d 'Stop comments on reviews, on every handler, until `unmute`. Jobs still run, and their reports are kept'
complete -c pushbutton-bin -n "__fish_pushbutton_bin_using_subcommand help; and not __fish_seen_subcommand_from run handler operator dashboard check health lint init replay explain record enqueue rerun cancel dead reports sweep mute unmute runs show status help" -f -a "unmute" -d 'Allow comments on reviews again, after `mute` or after too many failures in a row'
complete -c pushbutton-bin -n "__fish_pushbutton_bin_using_subcommand help; and not __fish_seen_subcommand_from run handler operator dashboard check health lint init replay explain record enqueue rerun cancel dead reports sweep mute unmute runs show status help" -f -a "runs" -d 'List the latest runs, of every operator'
complete -c pushbutton-bin -n "__fish_pushbutton_bin_using_subcommand help; and not __fish_seen_subcommand_from run handler operator dashboard check health lint init replay explain record enqueue rerun cancel dead reports sweep mute unmute runs show status help" -f -a "show" -d 'Show all that is known of one run: its stages, who cancelled it, and what became of its report'
complete -c pushbutton-bin -n "__fish_pushbutton_bin_using_subcommand help; and not __fish_seen_subcommand_from run handler operator dashboard check health lint init replay explain record enqueue rerun cancel dead reports sweep mute unmute runs show status help" -f -a "status" -d 'Show handlers and operators, the queue, the dead letters, the undelivered reports and the latest runs'
complete -c pushbutton-bin -n "__fish_pushbutton_bin_using_subcommand help; and not __fish_seen_subcommand_from run handler operator dashboard check health lint init replay explain record enqueue rerun cancel dead reports sweep mute unmute runs show status help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c pushbutton-bin -n "__fish_pushbutton_bin_using_subcommand help; and __fish_seen_subcommand_from dead" -f -a "list" -d 'List dead letters, the oldest first'
complete -c pushbutton-bin -n "__fish_pushbutton_bin_using_subcommand help; and __fish_seen_subcommand_from dead" -f -a "requeue" -d 'Put their jobs back on the queue, with all their attempts'
complete -c pushbutton-bin -n "__fish_pushbutton_bin_using_subcommand help; and __fish_seen_subcommand_from dead" -f -a "drop" -d 'Delete them; their jobs will not run'
complete -c pushbutton-bin -n "__fish_pushbutton_bin_using_subcommand help; and __fish_seen_subcommand_from reports" -f -a "list" -d 'List undelivered reports, the oldest first'
complete -c pushbutton-bin -n "__fish_pushbutton_bin_using_subcommand help; and __fish_seen_subcommand_from reports" -f -a "retry" -d 'Deliver them again'
complete -c pushbutton-bin -n "__fish_pushbutton_bin_using_subcommand help; and __fish_seen_subcommand_from reports" -f -a "drop" -d 'Delete them; nothing is posted'
