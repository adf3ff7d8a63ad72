#!/usr/bin/perl
# Which lines of kernels/ and engine/cuda the tests of the simulated device execute, and which kernels no test launches; or which
# lines of the CPU side the ci tier executes.
# ./run coverage builds with MCSAM_COVERAGE, runs the tests and calls this:
#   perl tests/coverage/coverage.pl --build DIR [--cpu] [--check] [--missed]
# --cpu: of engine, engine/cpu, data, infer and train, which all tests of the CPU execute. --missed: the lines, too.
# --check: exit 1 below the percentages of the tables below, or where a kernel is never launched.
# A line of a template is executed where an instance of it is; each instance of a kernel must be launched.
use strict;
use warnings;
use Getopt::Long;
use File::Find;
require './tests/mutants/mutate.pl'; # functions of a source

# A value of JSON, as gcov writes it.
sub json {
    my ($t) = @_;
    $$t =~ /\G\s*/gc;
    if ($$t =~ /\G\{\s*/gc) {
        my %h;
        until ($$t =~ /\G\s*\}/gc) {
            $$t =~ /\G\s*,?\s*"([^"]*)"\s*:/gc or die 'coverage: gcov wrote something else than JSON';
            my $key = $1;
            $h{$key} = json($t);
        }
        return \%h;
    }
    if ($$t =~ /\G\[\s*/gc) {
        my @a;
        until ($$t =~ /\G\s*\]/gc) {
            $$t =~ /\G\s*,/gc;
            push @a, json($t);
        }
        return \@a;
    }
    return $1 if $$t =~ /\G"((?:[^"\\]|\\.)*)"/gc;
    return $1 if $$t =~ /\G([^\s,\]\}]+)/gc;
    die 'coverage: gcov wrote something else than JSON';
}

my ($build, $check, $missed, $cpu) = ('build-coverage', 0, 0, 0);
GetOptions('build=s' => \$build, 'check' => \$check, 'missed' => \$missed, 'cpu' => \$cpu) or exit 2;
# Groups of files: name, which files, the least percentage of their lines (0: only shown).
my @groups = $cpu
    ? (['engine', qr{^engine/(?!cpu/)}, 0], ['engine/cpu', qr{^engine/cpu/}, 0], ['data', qr{^data/}, 0], ['infer', qr{^infer/}, 95],
       ['train', qr{^train/}, 92], ['train/demo', qr{^train/demo/}, 90])
    : (['kernels', qr{^kernels/}, 95], ['engine/cuda', qr{^engine/cuda/}, 90]);
my $counted = $cpu ? qr{^(?:engine/(?!cuda/)|data/|infer/|train/)} : qr{^(?:kernels|engine/cuda)/};
chomp(my $root = `pwd`);

my @objects;
find(sub { push @objects, $File::Find::name if /\.gcno$/ and $File::Find::name =~ m{\.dir/(.*)$} and $1 =~ $counted }, $build);
die "coverage: nothing was compiled for coverage in $build\n" unless @objects;

my (%lines, %instances);
for my $o (sort @objects) {
    # A program that was never run has left no counts: gcov takes them as zero.
    my $json = `gcov --json-format --stdout '$o' 2>/dev/null`;
    next unless $json =~ /\S/;
    for my $f (@{json(\$json)->{files}}) {
        (my $file = $f->{file}) =~ s{^(?:\Q$root\E/|\./|(?:\.\./)+)}{}; # ../: a compiler cache may make names relative
        next unless $file =~ $counted;
        for my $l (@{$f->{lines}}) {
            my ($n, $count) = @$l{qw(line_number count)};
            $lines{$file}{$n} = $count if !defined $lines{$file}{$n} or $lines{$file}{$n} < $count;
        }
        $instances{$_->{demangled_name}} += $_->{execution_count} for @{$f->{functions}};
    }
}

# Every __global__ function of the sources, and its instances.
my (%kernels, @never);
for my $file ($cpu ? () : (glob('kernels/*/*.cu'), glob('kernels/*/*.cuh'))) {
    open my $in, '<', $file or next;
    my $c = blanked(do { local $/; <$in> });
    my @found;
    functions($c, brackets($c), 0, length $c, \@found);
    $kernels{ function_name($_->[2]) } = $file for grep { $_->[2] =~ /\b__global__\b/ } @found;
}
my ($n_instances, $launched) = (0, 0);
my %seen;
for my $name (sort keys %instances) {
    my ($kernel) = $name =~ /^(?:[\w:<>*& ,]*? )??(?:\w+::)*(\w+)(?:<.*>)?\(/;
    next unless defined $kernel and $kernels{$kernel} and $name !~ /\{lambda/; # a kernel's inner functions are lines of it
    $seen{$kernel} = 1;
    $n_instances++;
    if ($instances{$name}) { $launched++ }
    else { (my $short = $name) =~ s/^void |\(.*\)$//g; push @never, "$kernels{$kernel}: $short" }
}
for my $k (sort keys %kernels) { push @never, "$kernels{$k}: $k (no instance of it is compiled)" and $n_instances++ unless $seen{$k} }

my $bad = 0;
printf "%-40s %8s %8s %8s\n", 'file', 'lines', 'executed', '';
my (@sums, %shown);
for my $group (@groups) {
    my ($name, $files, $least) = @$group;
    my ($all, $done) = (0, 0);
    for my $file (sort grep { $_ =~ $files } keys %lines) {
        my @n = sort { $a <=> $b } keys %{$lines{$file}};
        my @not = grep { !$lines{$file}{$_} } @n;
        $all += @n;
        $done += @n - @not;
        next if $shown{$file}++;
        printf "%-40s %8d %8d %7.1f%%%s\n", $file, scalar @n, @n - @not, 100 * (@n - @not) / @n, $missed && @not ? '  not: ' . join(' ', @not) : '';
    }
    my $percent = $all ? 100 * $done / $all : 0;
    push @sums, sprintf "%-40s %8d %8d %7.1f%%%s\n", "$name in all", $all, $done, $percent, $least ? "  (at least $least)" : '';
    $bad = 1 if $percent < $least;
}
print @sums;
print "never launched: $_\n" for @never;
$bad = 1 if @never;
printf "%d of %d kernels launched (%d __global__ functions)\n", $launched, $n_instances, scalar keys %kernels unless $cpu;
if ($check) { print $bad ? "coverage: too little\n" : "coverage: enough\n"; exit $bad }
