#!/usr/bin/perl
# The mutation test: every mistake that mutate.pl can make in a kernel or in the CUDA host code, one at a time, must make
# a test of the simulated device fail. ./run mutants builds what it needs and runs this.
#   perl tests/mutants/mutants.pl --build DIR [--sample N [--files K]] [--seed S] [--jobs J] [--quick T] [--tolerate P] [--resume] [--list] [FILE...]
# --sample N: N mutants of at most K files of kernels (6), chosen by the seed; --list: names them, runs nothing.
# --quick T: tests that take more than T seconds are left out.
# --resume: skips mutants of unchanged sources that an earlier run caught, or that survived and are explained.
# Exits 1 if a survivor is not explained in survivors.txt, or, for a sample, if more than --tolerate P percent of the
# mutants are such survivors. Run in the root of the sources.
use strict;
use warnings;
use File::Basename qw(dirname basename);
use File::Path qw(make_path);
use Getopt::Long;
use IO::Handle;
use POSIX qw(WNOHANG setsid);
require './tests/mutants/mutate.pl';

my ($build, $sample, $max_files, $seed, $jobs, $list, $tolerate, $quick, $resume) = ('build', 0, 6, 1, 1, 0, 0, 0, 0);
GetOptions('build=s' => \$build, 'sample=i' => \$sample, 'files=i' => \$max_files, 'seed=i' => \$seed, 'jobs=i' => \$jobs,
    'list' => \$list, 'tolerate=i' => \$tolerate, 'quick=i' => \$quick, 'resume' => \$resume) or exit 2;
$| = 1;
my $out = "$build/mutants";
chomp(my $root = `pwd`);
my $absolute_out = $out =~ m{^/} ? $out : "$root/$out";

sub slurp { open my $f, '<', $_[0] or die "mutants: cannot read $_[0]: $!\n"; local $/; return scalar <$f> }
sub spit { my ($p, $t) = @_; make_path(dirname $p); open my $f, '>', $p or die "mutants: cannot write $p: $!\n"; print $f $t; close $f }
sub say_err { print STDERR "mutants: @_\n" }
sub checksum { my $h = 5381; $h = ($h * 33 + $_) & 0xffffffff for unpack 'C*', $_[0]; return $h } # of a name: which numbers it has
sub digest { # of a text
    my ($t) = @_;
    my ($x, $y) = (2166136261, 40503);
    for (unpack 'N*', $t . "\0\0\0") { $x = (($x ^ $_) * 16777619) & 0xffffffff; $y = ($y * 31 + $_) & 0xffffffff }
    return sprintf '%08x%08x%d', $x, $y, length $t;
}

# Sources, the programs that test them in checked mode, and their compile commands.
my @sources = (glob('kernels/*/*.cu'), glob('kernels/*/*.cuh'), glob('engine/cuda/*.c'), glob('engine/cuda/*.h'));
my @only = map { s{^\./}{}r } @ARGV;
my (%first_number, %taken); # by a checksum of the file's name, so that another file changes no number; the next free one where two meet
for my $f (sort @sources) {
    my $at = checksum($f) % 20000;
    $at = ($at + 1) % 20000 while $taken{$at}++;
    $first_number{$f} = $at * 100000;
}
for my $f (@only) { die "mutants: $f: no such source in kernels or engine/cuda\n" unless grep { $_ eq $f } @sources }
my %target;
system("ninja -C $build --quiet build.ninja >&2"); # sources that are new
for (`ninja -C $build -t targets all 2>/dev/null`) { $target{$1} = 1 if /^(test_[\w.-]+): \w+_EXECUTABLE_LINKER/ }
my (%compile, %programs);
for my $t (sort keys %target) {
    my @commands = `ninja -C $build -t commands $t`;
    my ($link) = grep { /-o \Q$t\E\s/ and /cudasim_kernels_checked\.dir\/kernels\// } @commands;
    next unless $link;
    chomp $link;
    $programs{$t} = $link;
    for (@commands) {
        chomp;
        next unless m{/cudasim_kernels_checked\.dir/} or m{/engine/cuda/};
        $compile{$1} = $_ if m{ -c \Q$root\E/((?:kernels|engine/cuda)/\S+)$};
    }
}
die "mutants: no program in $build runs kernels in checked mode\n" unless %programs;

# Instrument and compile. If a copy does not compile, the mutants of the faulty lines are dropped with a message.
my (%mutants, %object, %dropped);
sub instrument {
    my ($f) = @_;
    my $base = $first_number{$f};
    my ($text, $m) = mutate(slurp($f), $f, $base, $dropped{$f} // {});
    $text =~ s/dev_kernel\(#kernel, kernel\)\(grid/mcs_mutant_launch(__FILE__) ? cudaErrorUnknown : dev_kernel(#kernel, kernel)(grid/
        if $f eq 'kernels/common/device.cuh'; # records the file of each launch, by which tests are selected
    my $all = "#include \"tests/mutants/mutant.h\"\n#line 1 \"$f\"\n$text";
    my $to = "$out/src/$f";
    spit($to, $all) if !$list and (!-e $to or slurp($to) ne $all);
    $mutants{$f} = $m;
}
instrument($_) for @sources;
{
    my %first;
    for my $f (@sources) { for (@{$mutants{$f}}) { die "mutants: $f and $first{$_->{n}} share numbers\n" if $first{$_->{n}} and $first{$_->{n}} ne $f; $first{$_->{n}} = $f } }
}

# The explanations in survivors.txt: blocks of
#   FILE | FUNCTION | KIND | the mutant's code => what it becomes | the line's code
#     why
my (%why, $key, $stale);
if (open my $f, '<', dirname(__FILE__) . '/survivors.txt') {
    while (<$f>) {
        next if /^#/ or /^\s*$/;
        if (/^cpu \|/) { undef $key; next } # of mutants_cpu.pl
        if (/^\S/) { s/\s+$//; $key = $_; $why{$key} = '' } elsif (defined $key) { s/^\s+|\s+$//g; $why{$key} .= ($why{$key} eq '' ? '' : ' ') . $_ }
    }
}
sub key_of { my ($m) = @_; return "$m->{file} | $m->{function} | $m->{kind} | $m->{from} => $m->{to} | $m->{code}" }
{
    my %there = map { key_of($_) => 1 } map { @$_ } values %mutants;
    for (sort grep { !$there{$_} } keys %why) { say_err("survivors.txt explains what is no mutant: $_"); $stale++ }
}

# The requested mutants.
my @chosen_files = @only ? @only : @sources;
my @wanted = map { @{$mutants{$_}} } @chosen_files;
my $random = $seed * 2654435761 % 4294967296;
sub below { $random = ($random * 1664525 + 1013904223) % 4294967296; return int($random / 65536) % $_[0] }
sub shuffled { my @a = @_; for (my $i = $#a; $i > 0; $i--) { my $j = below($i + 1); @a[$i, $j] = @a[$j, $i] } return @a }
if ($sample and @wanted > $sample) {
    my @files = shuffled(grep { @{$mutants{$_}} and !/^engine/ } @chosen_files); # tests of host code are too slow here
    splice @files, $max_files if @files > $max_files;
    my @pool = shuffled(map { @{$mutants{$_}} } @files);
    splice @pool, $sample if @pool > $sample;
    @wanted = sort { $a->{file} cmp $b->{file} or $a->{n} <=> $b->{n} } @pool;
}
if ($list) {
    printf "%s:%d %s: %s => %s (MUTANT=%d)\n", @$_{qw(file line kind from to n)} for @wanted;
    printf "%d mutants\n", scalar @wanted;
    exit 0;
}

system('ninja -C ' . join(' ', $build, '--quiet', sort keys %programs) . ' >&2') == 0 or die "mutants: the tests do not build\n";

# Compile only the requested files, and those that include a requested header.
my %wanted_file = map { $_->{file} => 1 } @wanted;
sub includes { my ($f, $seen) = @_; return if $seen->{$f}++; includes($_, $seen) for grep { -e $_ } slurp($f) =~ /^#include "([^"]+)"/gm }
my @copies;
for my $f (sort keys %compile) {
    my %seen;
    includes($f, \%seen);
    push @copies, $f if grep { $wanted_file{$_} } keys %seen;
}
sub command_of {
    my ($f) = @_;
    my $c = $compile{$f};
    my $o = "$absolute_out/obj/$f.o";
    $c =~ s/ -MD| -M[TF] \S+//g;
    $c =~ s/ -o \S+ -c \S+$//;
    # The compiler must not assume that a mutant's loop stays inside its array.
    $c =~ s/ -I/ -I$absolute_out\/src -I/;
    return "$c -w -fno-aggressive-loop-optimizations -fsanitize=bounds-strict,shift-exponent -fno-sanitize-recover=all -o $o -c $absolute_out/src/$f";
}
my $start = time;
for my $f (@copies) {
    my $o = "$absolute_out/obj/$f.o";
    make_path(dirname $o);
    for (my $try = 0; ; $try++) {
        my %seen;
        includes($f, \%seen);
        my $key = digest(join "\0", command_of($f), map { -e "$out/src/$_" ? slurp("$out/src/$_") : slurp($_) } sort keys %seen);
        if (-e $o and -e "$o.key" and slurp("$o.key") eq $key) { $object{$f} = $o; last }
        my $log = "$o.log";
        if (system("cd $build && " . command_of($f) . " > $log 2>&1") == 0) { spit("$o.key", $key); $object{$f} = $o; last }
        my %bad;
        my $said = slurp($log); # in a variable, so that the loop below continues its search
        while ($said =~ /^(?:\.?\/?)((?:kernels|engine)\/[\w.\/]+):(\d+):\d+: (?:fatal )?error/gm) { $bad{$1}{$2} = 1 if $mutants{$1} }
        # An error inside a statement of several lines may be reported for its first line.
        my $new = 0;
        for my $g (keys %bad) {
            for my $l (keys %{$bad{$g}}) {
                my @at = grep { $_->{line} >= $l - ($try > 1 ? 4 : 0) and $_->{line} <= $l + ($try > 1 ? 6 : 0) } @{$mutants{$g}};
                for (@at) { $new++ unless $dropped{$g}{$_->{line}}++ }
            }
            instrument($g);
        }
        if ((!$new and $try > 2) or $try > 12) {
            print STDERR slurp($log) =~ s/\n(?:.*\n){40,}//r;
            die "mutants: the instrumented $f does not compile\n";
        }
    }
}
for my $f (sort keys %dropped) { say_err("$f: no mutants in lines " . join(', ', sort { $a <=> $b } keys %{$dropped{$f}}) . ': they would not compile') }
my %alive = map { $_->{n} => 1 } map { @$_ } values %mutants;
@wanted = grep { !$dropped{$_->{file}}{$_->{line}} and $alive{$_->{n}} } @wanted;

my $mutant_o = "$absolute_out/obj/mutant.o";
system("cc -O1 -g -I. -o $mutant_o -c tests/mutants/mutant.c") == 0 or die "mutants: mutant.c does not compile\n";
my %binary;
for my $t (sort keys %programs) {
    my $link = $programs{$t};
    my $b = "$absolute_out/" . basename($t);
    for my $f (keys %object) { $link =~ s{ \S+\.dir/\Q$f\E\.o\b}{ $object{$f}}g }
    $link =~ s{ -o \Q$t\E\s}{ $mutant_o -o $b };
    system("cd $build && $link") == 0 or die "mutants: $t does not link\n";
    $binary{$t} = $b;
}

# Runs each test alone without a mutant: it must pass; records its time and the files whose kernels it launches.
my @tests;
sub name_of { my ($test) = @_; return "$test->{program} $test->{filter}" }
sub run_test { # test, mutant, seconds of processor time -> how it failed, or '' where it passed; and the seconds it took
    my ($test, $n, $limit, $launches) = @_;
    my $pid = fork // die "mutants: fork: $!\n";
    if (!$pid) {
        setsid();
        $ENV{MUTANT} = $n;
        $ENV{TEST_FIRST_FAILURE} = 1;
        $ENV{MUTANT_LAUNCHES} = $launches if $launches;
        chdir $build; # where ctest starts tests
        open STDOUT, '>', $launches ? "$launches.log" : '/dev/null';
        open STDERR, '>&', \*STDOUT;
        exec 'sh', '-c', 'ulimit -c 0; ulimit -t "$1"; shift; exec "$@"', 'sh', $limit, $binary{$test->{program}}, '-j1', '--fail-fast',
            '--filter', $test->{filter}, '--timeout', 4 * $limit
            or POSIX::_exit(127);
    }
    return $pid;
}
for my $t (sort keys %programs) {
    my $suite = '';
    for (`cd $build && $binary{$t} --list 2>/dev/null`) {
        s/\e\[[\d;]*m//g;
        if (/^(\w+): \d+ tests?/) { $suite = $1 }
        elsif (/(?:\x{e2}\x{94}[\x{9c}\x{94}]\x{e2}\x{94}\x{80}\x{e2}\x{94}\x{80}) (\S+)/ or /^\W+(\w+)\s*$/) { push @tests, {program => $t, filter => "$suite/$1"} }
    }
}
die "mutants: the test programs name no tests\n" unless @tests;
# --resume uses the last run's measurements if the programs are the same.
my $programs = digest(join "\0", $quick, map({ slurp("$object{$_}.key") } sort keys %object), map { $_ . (stat "$build/$_")[9] } sort keys %programs);
sub measured { # from the file
    open my $f, '<', "$out/tests" or return 0;
    my %test = map { name_of($_) => $_ } @tests;
    chomp(my $of = <$f> // '');
    return 0 if $of ne $programs;
    while (<$f>) {
        chomp;
        my ($seconds, $name, $left_out, @files) = split /\t/;
        @{$test{$name} // next}{'seconds', 'left_out', 'files'} = ($seconds, $left_out, { map { $_ => 1 } @files });
    }
    return 1;
}
sub measure { # one at a time, or J at a time
    my (%at, @left);
    @left = @tests;
    while (@left or %at) {
        while (@left and keys %at < $jobs) {
            my $test = shift @left;
            my $log = "$absolute_out/launches." . @left;
            unlink $log;
            $at{ run_test($test, 0, $quick || 900, $log) } = [$test, $log];
        }
        my @before = POSIX::times();
        my $pid = wait;
        my ($test, $log) = @{ delete $at{$pid} // next };
        my $rc = $?;
        my @after = POSIX::times();
        # For children that end together only the sum is known; it only affects the time limit of a test.
        $test->{seconds} = ($after[3] + $after[4] - $before[3] - $before[4]) / POSIX::sysconf(POSIX::_SC_CLK_TCK());
        $test->{files} = { map { s/\s+$//r => 1 } -e $log ? split /\n/, slurp($log) : () };
        if ($rc and $quick) { $test->{left_out} = 1; say_err(name_of($test) . " is left out: it fails, or takes more than $quick s"); next }
        if ($rc) { print STDERR slurp("$log.log"); die "mutants: $test->{program} --filter $test->{filter} fails where no mutant is awake\n" }
    }
    spit("$out/tests", join '', "$programs\n", map { join("\t", $_->{seconds}, name_of($_), $_->{left_out} // 0, sort keys %{$_->{files}}) . "\n" } grep { $_->{files} } @tests);
}
$resume && measured() or measure();
my @launching = grep { %{$_->{files}} } @tests;
my %tests_of; # source -> tests that launch its kernels, fastest first
for my $f (sort keys %wanted_file) {
    my @users = grep { my %seen; includes($_, \%seen); $seen{$f} } keys %compile;
    $tests_of{$f} = [sort { $a->{seconds} <=> $b->{seconds} } grep { my $t = $_; grep { $t->{files}{$_} } @users } @launching];
    # A sample excludes files whose tests are too slow.
    my $slow = $sample && grep { $_->{left_out} and $_->{program} !~ /pipeline|data_parallel/ } @{$tests_of{$f}};
    $tests_of{$f} = $slow ? [] : [grep { !$_->{left_out} } @{$tests_of{$f}}];
    $tests_of{$f} = [sort { $a->{seconds} <=> $b->{seconds} } grep { !$_->{left_out} and $programs{$_->{program}} =~ m{engine/cuda/} } @tests] if $f =~ /^engine/;
    next if @{$tests_of{$f}};
    # Its kernels are launched from other files, so any test may execute them.
    $tests_of{$f} = [sort { $a->{seconds} <=> $b->{seconds} } grep { !$_->{left_out} } @launching];
    next if @{$tests_of{$f}} and !$sample;
    say_err("$f: no test launches a kernel out of it, or none that is quick enough: left out");
    @wanted = grep { $_->{file} ne $f } @wanted;
}
say_err(sprintf '%d mutants in %d files; compiled and measured in %d s', scalar @wanted, scalar keys %wanted_file, time - $start);

# Results are saved by mutant and source text: the next run starts with the test that caught a mutant, or skips it with
# --resume. Survivors are tried again, unless --resume finds them explained.
my ($results, %caught_by, %survived, %text) = ("$out/results");
$text{$_} = digest(slurp($_)) for keys %wanted_file;
if (open my $f, '<', $results) {
    while (<$f>) { chomp; my ($key, $test) = split /\t/; if (($test // '') eq '') { delete $caught_by{$key}; $survived{$key} = 1 } else { $caught_by{$key} = $test; delete $survived{$key} } }
}
sub result_key { my ($m) = @_; return "$m->{file}:$m->{line} $m->{kind}: $m->{from} => $m->{to} $text{$m->{file}} $m->{n}" } # n: two of a line may look alike
my %kills; # by source and test; tests run in order of expected kills per second
$kills{s/:.*//sr}{$caught_by{$_}}++ for keys %caught_by;

# One process per mutant runs its tests until one fails; its exit status is the test's number + 1.
my (%running, @queue, @survivors, $caught);
@queue = @wanted;
$caught = 0;
my ($done, %how) = (0);
if ($resume) {
    my (@known, @open);
    for my $m (@queue) {
        my $key = result_key($m);
        push @{$caught_by{$key} ? \@known : $survived{$key} && $why{key_of($m)} ? \@survivors : \@open}, $m;
    }
    @queue = @open;
    $done = $caught = @known;
    $how{$_->{kind}}[0]++ for @known;
    $how{$_->{kind}}[1]++ for @survivors;
    say_err("an earlier run caught $done of them; " . @survivors . ' survived it, and are explained');
    $done += @survivors;
}
open my $record, '>>', $results or die "mutants: cannot write $results: $!\n";
$record->autoflush(1);
while (@queue or %running) {
    while (@queue and keys %running < $jobs) {
        my $m = shift @queue;
        my $before = $caught_by{result_key($m)} // '';
        my $kills = $kills{$m->{file}} //= {};
        my %hope = map { name_of($_) => (name_of($_) eq $before ? 1e9 : ($kills->{name_of($_)} // 0) + 0.2) / ($_->{seconds} + 0.1) } @{$tests_of{$m->{file}}};
        my @mine = sort { $hope{name_of($b)} <=> $hope{name_of($a)} } @{$tests_of{$m->{file}}};
        @mine = grep { $_->{seconds} <= 4 } @mine if $why{key_of($m)}; # explained survivors: only the faster tests
        my $pid = fork // die "mutants: fork: $!\n";
        if (!$pid) {
            for my $i (0 .. $#mine) {
                my $limit = 2 + int(6 * $mine[$i]{seconds});
                waitpid run_test($mine[$i], $m->{n}, $limit), 0;
                POSIX::_exit($i < 254 ? $i + 1 : 255) if $?;
            }
            POSIX::_exit(0);
        }
        $running{$pid} = [$m, \@mine];
    }
    my $pid = wait;
    my $rc = $? >> 8;
    my ($m, $mine) = @{delete $running{$pid} // next};
    print $record join("\t", result_key($m), $rc ? name_of($mine->[$rc - 1]) : ''), "\n";
    $done++;
    if ($rc) { $caught++, $kills{$m->{file}}{name_of($mine->[$rc - 1])}++ } else { push @survivors, $m }
    $how{$m->{kind}}[$rc ? 0 : 1]++;
    print STDERR "\rmutants: $done of " . @wanted . ', ' . @survivors . ' survive ' if -t STDERR;
}
print STDERR "\r" if -t STDERR;

my $unexplained = 0;
for my $m (sort { $a->{file} cmp $b->{file} or $a->{n} <=> $b->{n} } @survivors) {
    my $reason = $why{key_of($m)};
    $unexplained++ unless $reason;
    print "$m->{file}:$m->{line}: $m->{kind} survives\n- $m->{code}\n+   $m->{from}  =>  $m->{to}\n", $reason ? "  $reason\n" : "  NOT EXPLAINED: " . key_of($m) . "\n";
}
printf "%-10s %5s of %5s caught\n", $_, $how{$_}[0] // 0, ($how{$_}[0] // 0) + ($how{$_}[1] // 0) for sort keys %how;
printf "%d survivors, %d of them not explained in tests/mutants/survivors.txt; %d s\n", scalar @survivors, $unexplained, time - $start;
printf "%d of %d mutants caught\n", $caught, scalar @wanted;
exit($stale || 100 * $unexplained > $tolerate * @wanted ? 1 : 0);
