#!/usr/bin/perl
# The mutation test of the CPU side: every mistake in engine, engine/cpu, data, infer and train, made one at a time, must make a
# test fail. ./run mutants --cpu builds the libraries and runs this; README.md describes it.
#   perl tests/mutants/mutants_cpu.pl --build DIR [--sample N] [--seed S] [--jobs J] [--seconds T] [--tolerate P] [--resume] [--list]
#                                     [--review] [--programs P,...] [FILE...]
# --sample N: N/5 of each folder, drawn by the seed; without it all of them (of the FILEs, if named). --seconds T: seconds of
# processor time for a mutant's tests (45). --review: the mistakes listed in review.txt.
# --resume: skips mutants of unchanged sources that an earlier run caught, or that survived and are explained.
# --programs: only with these test programs, in any build (with FILEs), for a quick sample; sources that they do not link are
# left out. Exits 1 if more than P percent of the mutants survive without an explanation in survivors.txt.
use strict;
use warnings;
use File::Basename qw(dirname);
use File::Path qw(make_path remove_tree);
use Getopt::Long;
use IO::Handle;
use POSIX ();
require './tests/mutants/mutate.pl';
require './tests/mutants/statements.pl';
require './tests/mutants/mistakes.pl';
require './tests/mutants/programs.pl';

my ($build, $sample, $seed, $jobs, $seconds, $tolerate, $resume, $list, $review) = ('build-mutants', 0, 1, 1, 45, 0, 0, 0, 0);
GetOptions('build=s' => \$build, 'sample=i' => \$sample, 'seed=i' => \$seed, 'jobs=i' => \$jobs, 'seconds=f' => \$seconds,
    'tolerate=f' => \$tolerate, 'resume' => \$resume, 'list' => \$list, 'review' => \$review, 'cpu' => \my $cpu, 'programs=s' => \my $programs) or exit 2;
$| = 1;
my @folders = ('engine', 'engine/cpu', 'data', 'infer', 'train');
sub folder_of { my ($f) = @_; return $f =~ m{^engine/cpu/} ? 'engine/cpu' : $f =~ s{/.*}{}r }

my @sources = grep { !m{^engine/cuda/|^data/(?:h5read|imageread)/} } map { glob "$_/*.c $_/*/*.c" } qw(engine data infer train);
my @only = map { s{^\./}{}r } @ARGV;
for my $f (@only) { die "mutants: $f: no such source of the CPU side\n" unless grep { $_ eq $f } @sources }
my %source = map { $_ => source(slurp($_)) } @sources;
my $members = struct_members(map({ slurp($_) } glob('engine/*.h engine/*/*.h data/*/*.h infer/*.h infer/*/*.h train/*/*.h')), map { $_->{text} } values %source);

# The explanations in survivors.txt for the CPU side ("cpu | ...").
my (%why, $key);
if (open my $f, '<', 'tests/mutants/survivors.txt') {
    while (<$f>) {
        next if /^#/ or /^\s*$/;
        if (/^\S/) { s/\s+$//; $key = $_; $why{$key} = '' if /^cpu \|/ } elsif (exists $why{$key}) { s/^\s+|\s+$//g; $why{$key} .= ($why{$key} eq '' ? '' : ' ') . $_ }
    }
}

# The requested mutants by folder, in the order in which they run.
my $random = $seed * 2654435761 % 4294967296;
sub below { $random = ($random * 1664525 + 1013904223) % 4294967296; return int($random / 65536 * $_[0] / 65536) }
sub shuffled { my @a = @_; for (my $i = $#a; $i > 0; $i--) { my $j = below($i + 1); @a[$i, $j] = @a[$j, $i] } return @a }
my (%queue, %quota, $stale);
if ($review) {
    my ($found, $missing) = reviewed('tests/mutants/review.txt', \%source);
    print STDERR "mutants: review.txt: $_\n" for @$missing;
    $stale = @$missing;
    push @{$queue{review}}, @$found;
    @folders = ('review');
} else {
    my %all;
    for my $f (@only ? @only : @sources) { push @{$all{folder_of($f)}}, @{mistakes($source{$f}, $f, $members)} }
    for my $d (@folders) { $queue{$d} = [$sample ? shuffled(@{$all{$d} // []}) : @{$all{$d} // []}] }
    if (!@only) {
        my %there = map { mistake_key($_) => 1 } map { @$_ } values %all;
        for (sort grep { !$there{$_} } keys %why) { print STDERR "mutants: survivors.txt explains what is no mutant: $_\n"; $stale++ }
    }
}
for my $d (@folders) {
    my $n = @{$queue{$d} // []};
    $quota{$d} = $sample && !$review ? int($sample / @folders + 0.5) : $n;
    $quota{$d} = $n if $quota{$d} > $n;
}
my $n_wanted = 0;
$n_wanted += $_ for values %quota;
if ($list) {
    for my $d (@folders) {
        printf "%s:%d: %s: %s => %s [%s]\n", @$_{qw(file line kind from to function)} for @{$queue{$d}}[0 .. $quota{$d} - 1];
    }
    print "$n_wanted mutants\n";
    exit($stale ? 1 : 0);
}

my $start = time;
my $out = open_programs($build, $jobs, $programs ? {map { $_ => $source{$_} } @only} : \%source, split /,/, $programs // '');
my $measured = measure(); # {point of a source} -> tests
printf STDERR "mutants: %d tests measured in %d s; %d mutants to try\n", scalar @{$measured->{tests}}, time - $start, $n_wanted;

# Results of earlier runs by mutant and text of its source.
my ($results, %caught_by, %survived, %text) = ("$out/results");
$text{$_} = digest($source{$_}{text}) for @sources;
sub result_key { my ($m) = @_; return "$m->{file} $text{$m->{file}} " . mistake_key($m) }
if (open my $f, '<', $results) {
    while (<$f>) {
        chomp;
        my ($key, $status, $test) = split /\t/;
        delete $caught_by{$key};
        delete $survived{$key};
        if ($status eq 'caught') { $caught_by{$key} = $test } else { $survived{$key} = $status }
    }
}
my (%kills, %kills_near); # by test, in a source and in a function; tests run in order of expected kills per second
sub count_kill { my ($m, $test) = @_; $kills{$m->{file}}{$test}++; $kills_near{"$m->{file} $m->{function}"}{$test}++ }
for (keys %caught_by) { my ($file, $function) = /^(\S+) \S+ cpu \| (.*?) \|/; count_kill({file => $file, function => $function}, $caught_by{$_}) }

# The tests that execute a mutant, most likely ones first; later ones several at a time.
sub steps_of {
    my ($m) = @_;
    my @tests = tests_of($measured, $m);
    my $earlier = $caught_by{result_key($m)} // '';
    my ($far, $near) = ($kills{$m->{file}} // {}, $kills_near{"$m->{file} $m->{function}"} // {});
    my ($stem) = $m->{file} =~ m{([^/]+)\.c$};
    $stem =~ s/^cmd_//;
    my %hope;
    for my $t (@tests) {
        my $hope = 0.1 + ($far->{$t->{name}} // 0) + 4 * ($near->{$t->{name}} // 0) + ($t->{program} =~ /\Q$stem\E/ ? 1 : 0) + ($t->{program} =~ /docs|bench/ ? -0.08 : 0);
        $hope = 1e9 if $t->{name} eq $earlier;
        $hope{$t->{name}} = $hope / ($t->{seconds} + 0.15);
    }
    @tests = sort { $hope{$b->{name}} <=> $hope{$a->{name}} || $a->{name} cmp $b->{name} } @tests;
    my (@steps, %open);
    for my $t (@tests) {
        my $g = $open{$t->{program}};
        if (!$t->{setup} and @steps < 6) { push @steps, [$t]; next }
        if (!$g or !$t->{setup} && (seconds_of([@$g, $t]) > 6 or @$g >= 40)) { $g = $open{$t->{program}} = []; push @steps, $g }
        push @$g, $t;
    }
    return @steps;
}

# Runs one mutant in a separate process and returns its result.
sub try_mutant {
    my ($m, $slot) = @_;
    my ($ok, $library, $said) = plant($slot, $source{$m->{file}}, $m);
    return ($ok, '', $said) if $ok ne 'planted';
    my @steps = steps_of($m);
    return ('survived', '', 'no test executes it') unless @steps;
    my $left_out = 0;
    for my $step (@steps) {
        my @asked = @$step;
        while (@asked and processor_seconds() + seconds_of(\@asked) > $seconds) { pop @asked; $left_out++ }
        next unless @asked;
        my $expected = seconds_of(\@asked);
        my ($how, $test) = run_tests(\@asked, slot => $slot, library => $library, limit => 3 + 6 * $expected);
        return ('caught', $test, $how) if $how;
    }
    return ('survived', '', $left_out ? "$left_out tests left out for time" : '');
}

my (%done, %caught, @survivors, %how, @gone, %taken, $record);
my $equivalent = my $invalid = 0;
open $record, '>>', $results or die "mutants: cannot write $results: $!\n";
$record->autoflush(1);
open my $alive, '>', "$out/survivors" or die "mutants: cannot write $out/survivors: $!\n";
$alive->autoflush(1);
sub settle { # mutant, status, test, remark
    my ($m, $status, $test, $remark) = @_;
    my $d = $review ? 'review' : folder_of($m->{file});
    if ($status eq 'equivalent' or $status eq 'invalid') {
        $status eq 'invalid' ? $invalid++ : $equivalent++;
        if ($review) { push @survivors, $m; $m->{remark} = "$status: $remark"; $done{$d}++ }
        return;
    }
    $done{$d}++;
    $how{$m->{kind}}[$status eq 'caught' ? 0 : 1]++;
    if ($status eq 'caught') { $caught{$d}++; count_kill($m, $test); $m->{test} = $test; push @gone, $m if $review }
    else {
        $m->{remark} = $remark;
        push @survivors, $m;
        print $alive "$m->{file}:$m->{line}: $m->{kind} in $m->{function}: $m->{from} => $m->{to}" . ($remark ? " ($remark)" : '') . "\n    $m->{code}\n" unless $why{mistake_key($m)};
    }
}
# The next mutant, alternating between the folders; undef if none is left.
my ($turn, %running) = (0);
sub due {
    for (1 .. @folders) {
        my $d = $folders[$turn++ % @folders];
        my $open = 0;
        $_->{d} eq $d and $open++ for values %running;
        $taken{$d} //= 0;
        while ($taken{$d} < @{$queue{$d}} and ($done{$d} // 0) + $open < $quota{$d}) {
            my $m = $queue{$d}[$taken{$d}++];
            my $key = result_key($m);
            if ($resume and !$review) {
                if (defined $caught_by{$key}) { settle($m, 'caught', $caught_by{$key}, ''); next }
                my $was = $survived{$key} // '';
                if ($was eq 'equivalent' or $was eq 'invalid' or $was eq 'survived' && $why{mistake_key($m)}) { settle($m, $was, '', 'as before'); next }
            }
            return ($m, $d);
        }
    }
    return;
}
my @slots = reverse 1 .. $jobs;
while (1) {
    while (@slots) {
        my ($m, $d) = due();
        last unless $m;
        my $slot = pop @slots;
        my $answer = "$out/answer.$slot";
        unlink $answer;
        my $pid = fork // die "mutants: fork: $!\n";
        if (!$pid) {
            my @a = eval { try_mutant($m, $slot) };
            @a = ('broken', '', $@) if $@;
            s/\s+/ /g for @a;
            spit($answer, join "\t", @a);
            POSIX::_exit(0);
        }
        $running{$pid} = {m => $m, d => $d, slot => $slot, answer => $answer};
    }
    last unless %running;
    my $pid = wait;
    my $r = delete $running{$pid} // next;
    push @slots, $r->{slot};
    my ($status, $test, $remark) = split /\t/, -e $r->{answer} ? slurp($r->{answer}) : "broken\t\tno answer";
    die "mutants: " . mistake_key($r->{m}) . ": $remark\n" if $status eq 'broken';
    print $record join("\t", result_key($r->{m}), $status, $test // ''), "\n" unless $review;
    settle($r->{m}, $status, $test, $remark // '');
    if (-t STDERR or $ENV{MUTANTS_VERBOSE}) {
        my ($n, $c, $all) = (0, 0, 0);
        for (@folders) { $n += $done{$_} // 0; $c += $caught{$_} // 0; $all += $quota{$_} }
        print STDERR "\rmutants: $n of $all, $c caught, " . (time - $start) . ' s ';
    }
}
print STDERR "\n" if -t STDERR;
close_programs();

my $unexplained = 0;
for my $m (sort { $a->{file} cmp $b->{file} or $a->{line} <=> $b->{line} or $a->{at} <=> $b->{at} } @survivors) {
    my $reason = $why{mistake_key($m)};
    $unexplained++ unless $reason;
    print $review ? "SURVIVES: $m->{name}\n" : '', "$m->{file}:$m->{line}: $m->{kind} survives", $m->{remark} ? " ($m->{remark})" : '', "\n- $m->{code}\n+   $m->{from}  =>  $m->{to}\n";
    print $reason ? "  $reason\n" : '  NOT EXPLAINED: ' . mistake_key($m) . "\n" unless $review;
}
if ($review) { print "caught: $_->{name} ($_->{test})\n" for @gone }
else { printf "%-10s %5d of %5d caught\n", $_, $how{$_}[0] // 0, ($how{$_}[0] // 0) + ($how{$_}[1] // 0) for sort keys %how }
my ($n, $all) = (0, 0);
print "\n";
for my $d (@folders) {
    my ($c, $m) = ($caught{$d} // 0, $done{$d} // 0);
    printf "%-10s %5d of %5d caught  %5.1f %%\n", $d, $c, $m, $m ? 100 * $c / $m : 0;
    $n += $c;
    $all += $m;
}
printf "%d survivors, %d of them not explained in tests/mutants/survivors.txt; %d more changed nothing in the compiled code, %d did not compile; %d s\n",
    scalar @survivors, $unexplained, $equivalent, $invalid, time - $start;
printf "%d of %d mutants caught\n", $n, $all;
exit($stale || 100 * $unexplained > $tolerate * $all ? 1 : 0);
