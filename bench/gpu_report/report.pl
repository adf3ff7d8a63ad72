#!/usr/bin/perl
# A report on the kernels that needs no GPU: the compiler's output for each architecture, and the simulation's counters of
# each kernel's largest launch, against the limits of an H200. ./run gpu-report builds the programs and runs this:
#   perl bench/gpu_report/report.pl --build DIR --launches NAME --tests NAME... [--nvcc NVCC] [--tools DIR]... [--csv FILE] [--out DIR] [--check]
# NAME.tsv: lines of tests/cudasim/launches.cpp, NAME.symbols: nm -C of the program that wrote them. --tools: folders of nvdisasm and cuobjdump.
# --launches: shapes of the models; --tests: shapes of tests, for kernels without a launch of a model: shown, but not checked
# against budgets. Nothing here is a measured time. --check: exit 1 where a budget (kernels/*/*.budget) is exceeded.
#
# A budget: lines PATTERN KEY VALUE [KEY VALUE]...; the pattern matches a kernel's name as c++filt writes it, * anything:
#   regs N       registers at most            mma N        tensor-core instructions at least
#   wide P       at least P % of global loads take 16 bytes a thread
#   conflicts P  bank conflicts at most P % of the requests to shared memory
#   sectors P    at least P % of the sectors' bytes are requested
#   occupancy P  at least P % of a multiprocessor's threads
#   reach P      at least P % of the limit on paper (below)
# Kernels without a line: no spills, no local memory.
use strict;
use warnings;
use Getopt::Long;
use File::Path qw(make_path);
use File::Basename qw(basename dirname);

my ($build, $nvcc, $csv, $out, $check, @launches, @of_tests, @tools) = ('build', '', 'bench/results/gpu_report.csv', 'runs/gpu_report', 0);
GetOptions('build=s' => \$build, 'nvcc=s' => \$nvcc, 'csv=s' => \$csv, 'out=s' => \$out, 'check' => \$check,
    'launches=s' => \@launches, 'tests=s' => \@of_tests, 'tools=s' => \@tools) or exit 2;
my @archs = (80, 90, 100);
my $shown = 90; # the architecture that the HTML page shows

# An H200: 132 multiprocessors at 1.755 GHz, 4.8 TB/s. bf16 on tensor cores: 4 clocks for m16n8k16 at the full rate of
# 989 TFLOP/s, which only wgmma reaches; mma.sync is known to reach about 62 % of it: 6.4 clocks.
my %h200 = (sm => 132, clock => 1.755e9, bandwidth => 4.8e12, fp32 => 67e12, mma_clocks => 6.4, latency => 700e-9, l2_clock => 64);
$h200{tensor} = $h200{sm} * 4 * 4096 / $h200{mma_clocks} * $h200{clock}; # operations a second by mma.sync
my %shared_of = (80 => 164 * 1024, 90 => 228 * 1024, 100 => 228 * 1024);

sub slurp { open my $f, '<', $_[0] or return ''; local $/; return scalar <$f> }
sub spit { my ($p, $t) = @_; make_path(dirname $p); open my $f, '>', $p or die "gpu-report: cannot write $p: $!\n"; print $f $t; close $f }
sub note { print STDERR "gpu-report: @_\n" }
sub tool { my ($n) = @_; for (@tools) { return "$_/$n" if -x "$_/$n" } chomp(my $p = `command -v $n 2>/dev/null`); return $p }
sub min { my $m = shift; for (@_) { $m = $_ if $_ < $m } return $m }
sub max { my $m = shift; for (@_) { $m = $_ if $_ > $m } return $m }
my ($nvdisasm, $cuobjdump) = (tool('nvdisasm'), tool('cuobjdump'));

# ---- cubins: extracted from the backend's objects if up to date, else compiled; cached by content ----
sub includes { my ($f, $seen) = @_; return if $seen->{$f}++; includes($_, $seen) for grep { -e $_ } slurp($f) =~ /^#include [<"]([^">]+)[">]/gm }
sub digest {
    my ($t) = @_;
    my ($x, $y) = (2166136261, 40503);
    for (unpack 'N*', $t . "\0\0\0") { $x = (($x ^ $_) * 16777619) & 0xffffffff; $y = ($y * 31 + $_) & 0xffffffff }
    return sprintf '%08x%08x%d', $x, $y, length $t;
}
my $cubins = "$build/gpu_report/cubins";
make_path($cubins);
my $known = `"$nvcc" --list-gpu-arch 2>/dev/null`;
my @have = grep { $known =~ /compute_$_\b/ } @archs;
note("$nvcc does not know sm_$_") for grep { $known !~ /compute_$_\b/ } @archs;
my $version = `"$nvcc" --version`;
my %source = map { m{([^/]+)\.cu$} => $_ } glob 'kernels/*/*.cu'; # name -> file
my @files = sort keys %source;
my $compiled = 0;
my @exceeded; # of --check
for my $n (@files) {
    my %seen;
    includes($source{$n}, \%seen);
    my @of = grep { !m{^tests/} } sort keys %seen;
    my $key = digest(join "\0", $version, map { slurp $_ } @of);
    next if slurp("$cubins/$n.key") eq $key and !grep { !-e "$cubins/$n.sm_$_.cubin" } @have;
    unlink glob "$cubins/$n.sm_*";
    my $object = "$build/cuda/$n.o";
    if ($cuobjdump and -e $object and !grep { (stat $_)[9] > (stat $object)[9] } @of) {
        system("cd '$cubins' && '$cuobjdump' -xelf all '" . ($object =~ m{^/} ? $object : "$ENV{PWD}/$object") . "' > /dev/null 2>&1");
        for (glob "$cubins/$n.*sm_*.cubin") { rename $_, "$cubins/$n.sm_$1.cubin" if /sm_(\d+)\.cubin$/ }
    }
    for my $arch (@have) {
        my $c = "$cubins/$n.sm_$arch.cubin";
        next if -e $c;
        $compiled++;
        system("'$nvcc' -std=c++17 -O3 -arch=sm_$arch -cubin -I. -Xptxas -v -o '$c' '$source{$n}' > '$c.ptxas' 2>&1") == 0
            or do { print STDERR substr(slurp("$c.ptxas"), 0, 2000); unlink $c, "$c.ptxas"; push @exceeded, "$source{$n} does not compile for sm_$arch"; last };
    }
    spit("$cubins/$n.key", $key) unless grep { !-e "$cubins/$n.sm_$_.cubin" } @have;
}
note("compiled $compiled cubins") if $compiled;

# ---- the compiler's output: registers, stack, shared memory ----
my %static; # arch -> kernel (mangled) -> facts
for my $n (@files) {
    for my $arch (@have) {
        my $c = "$cubins/$n.sm_$arch.cubin";
        my $f;
        next unless -e $c;
        if (-e "$c.ptxas") {
            for (split /\n/, slurp "$c.ptxas") {
                if (/Compiling entry function '(\w+)'/) { $f = $static{$arch}{$1} = {file => $n, shared => 0, spill => 0, stack => 0} }
                next unless $f;
                @$f{qw(stack spill)} = ($1, $2 + $3) if /(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads/;
                $f->{regs} = $1 if /Used (\d+) registers/;
                $f->{shared} = $1 if /(\d+) bytes smem/;
            }
        } elsif ($cuobjdump) {
            for (split /\n/, `'$cuobjdump' -res-usage '$c' 2>/dev/null`) {
                if (/Function (\w+):/) { $f = $static{$arch}{$1} = {file => $n} }
                if ($f and /REG:(\d+) STACK:(\d+) SHARED:(\d+) LOCAL:(\d+)/) {
                    # From sm_90 on the system reserves 1 KiB of each block.
                    @$f{qw(regs stack shared spill)} = ($1, $2, max(0, $3 - ($arch >= 90 ? 1024 : 0)), $2 + $4);
                    $f = undef;
                }
            }
        }
    }
}

# ---- the instructions ----
my $sass = $nvdisasm ne '';
note('the columns of SASS are skipped: no nvdisasm in the toolkit or from PyPI') unless $sass;
sub width { return $_[0] =~ /\.128\b/ ? 16 : $_[0] =~ /\.64\b/ ? 8 : $_[0] =~ /\.[SU]16\b/ ? 2 : $_[0] =~ /\.[SU]8\b/ ? 1 : 4 }
sub passes { my ($op) = @_; return $op =~ /^LDSM/ ? ($op =~ /\.4\b/ ? 4 : $op =~ /\.2\b/ ? 2 : 1) : width($op) / 4 >= 1 ? width($op) / 4 : 1 } # shared-memory wavefronts
sub mix { # of a list of instructions
    my %m = (n => scalar @_, hmma => 0, ldg => 0, wide => 0, local => 0, lsu => 0, bytes => 0, load_bytes => 0, fp32 => 0, memory => 0, special => 0);
    for (@_) {
        $m{hmma}++ if /^[HBI]MMA\.\d/;
        $m{special}++ if /^MUFU/;
        $m{local}++ if /^(?:LDL|STL)/;
        if (/^(?:LDG|LDGSTS)/) { $m{ldg}++; $m{wide}++ if /\.128\b/; $m{load_bytes} += width($_) }
        if (/^(?:LDG|LDGSTS|STG|RED|ATOMG)/) { $m{bytes} += width($_); $m{memory}++ }
        if (/^(?:LDS|LDSM|STS|LDGSTS|ATOMS)/) { $m{lsu} += passes($_); $m{memory}++ unless /^LDGSTS/ }
        $m{fp32} += /^FFMA/ ? 2 : 1 if /^(?:FFMA|FADD|FMUL|FMNMX|MUFU)/;
    }
    return \%m;
}
if ($sass) {
    for my $n (@files) {
        for my $arch (@have) {
            my ($name, @code, %label, $open);
            my $finish = sub {
                my $f = $static{$arch}{ $name // '' } or return;
                my $all = $f->{all} = mix(map { $_->[0] } @code);
                # The main loop (from a label to a branch back to it): the innermost one with the most mma.sync, or, without
                # any, with the most bytes of global memory; without a loop the whole kernel.
                my ($best, $score) = ($all, -1);
                for my $i (0 .. $#code) {
                    my ($op, $to) = @{$code[$i]};
                    next unless defined $to and defined $label{$to} and $label{$to} <= $i;
                    my $m = mix(map { $_->[0] } @code[$label{$to} .. $i]);
                    my $s = $all->{hmma} ? $m->{hmma} / ($m->{n} + 40) : $m->{bytes} / ($m->{n} + 10);
                    ($best, $score) = ($m, $s) if $s > $score and $s > 0;
                }
                $f->{loop} = $best;
            };
            next unless -e "$cubins/$n.sm_$arch.cubin";
            open my $in, '-|', "'$nvdisasm' -c '$cubins/$n.sm_$arch.cubin' 2>/dev/null" or next;
            while (<$in>) {
                if (/^\.text\.(\w+):/) { $finish->(); ($name, @code) = ($1); %label = () }
                elsif (/^(\.L_x_\d+):/) { $label{$1} = @code }
                elsif (m{^\s+(?:/\*[0-9a-f]{4,}\*/)?\s+(?:\{\s*)?(?:\@!?U?P\w+\s+)?([A-Z][A-Z0-9_.]*)\b([^;]*)}) {
                    my ($op, $rest) = ($1, $2);
                    $op = 'NEVER' if /\@!U?PT\s/; # predicated off: takes an issue slot, accesses no memory
                    push @code, [$op, $op =~ /^BRA/ && $rest =~ /`\((\.L_x_\d+)\)/ ? $1 : undef] unless $op =~ /^NOP/;
                }
            }
            $finish->();
            close $in;
        }
    }
}

# ---- names: as c++filt writes them, without return type and arguments where that is unique ----
my %mangled = map { $_ => 1 } map { keys %$_ } values %static;
my %full;
if (%mangled) {
    my @m = sort keys %mangled;
    spit("$build/gpu_report/names", join "\n", @m, '');
    my @d = split /\n/, `c++filt < '$build/gpu_report/names'`;
    @full{@m} = @d;
}
sub short { my ($n) = @_; my $s = $n =~ s/^void //r; my $depth = 0; # cut at the "(" outside of <>
    for my $i (0 .. length($s) - 1) { my $c = substr $s, $i, 1; $depth++ if $c eq '<'; $depth-- if $c eq '>'; return substr $s, 0, $i if $c eq '(' and !$depth and $i } return $s }

# ---- the simulation's counters of each kernel's largest launch ----
my @counted = qw(launches blocks threads barriers collectives mma global_requests sectors sector_bytes shared_requests conflicts partial);
my %launch; # full name -> facts
for my $name (@launches, @of_tests) {
    my $of = (grep { $_ eq $name } @launches) ? 'model' : 'test';
    my (%symbols, $base);
    for (split /\n/, slurp "$name.symbols") { $base = hex $1 if /^([0-9a-f]+) \w (?:__ehdr_start|__executable_start)$/ }
    for (split /\n/, slurp "$name.symbols") { $symbols{ hex($1) - ($base // 0) } = $2 if /^([0-9a-f]+) [tTwWuV] (.*)$/ }
    for (split /\n/, slurp "$name.tsv") {
        my ($at, undef, $grid, $block, $dynamic, $unique, @c) = split /\t/;
        next unless @c == @counted;
        my $full = $symbols{hex $at} // next;
        my %l = (grid => $grid, block => $block, dynamic => $dynamic, unique => $unique, of => $of);
        @l{@counted} = @c;
        $l{work} = $l{global_requests} + $l{shared_requests};
        my $old = $launch{$full};
        $launch{$full} = \%l if !$old or $old->{of} eq $of && $old->{unique} < $unique;
    }
}

# ---- occupancy and limits ----
sub up { my ($x, $to) = @_; return int(($x + $to - 1) / $to) * $to }
sub blocks_held { # on one multiprocessor
    my ($arch, $regs, $shared, $threads) = @_;
    my $warps = up($threads, 32) / 32;
    my $by_regs = int(int(65536 / up($regs * 32, 256)) / 4) * 4 / $warps;
    my $by_shared = $shared_of{$arch} / up($shared + 1024, 128);
    return int min($by_regs, $by_shared, 64 / $warps, 32);
}
sub threads_of { my $n = 1; $n *= $_ for split /,/, $_[0]; return $n }

my @rows;
for my $m (sort { $full{$a} cmp $full{$b} } keys %mangled) {
    my $l = $launch{$full{$m}};
    for my $arch (@have) {
        my $f = $static{$arch}{$m} or next;
        my %r = (kernel => short($full{$m}), full => $full{$m}, file => $f->{file}, arch => $arch, regs => $f->{regs}, spill => $f->{spill} + $f->{stack},
            shared => $f->{shared});
        if ($f->{all}) {
            my $a = $f->{all};
            @r{qw(instructions mma loads local)} = @$a{qw(n hmma ldg local)};
            $r{wide} = $a->{ldg} ? 100 * $a->{wide} / $a->{ldg} : '';
        }
        if ($l) {
            my $threads = threads_of($l->{block});
            my $held = blocks_held($arch, $f->{regs}, $f->{shared} + $l->{dynamic}, $threads);
            @r{qw(of grid block dynamic launches)} = @$l{qw(of grid block dynamic launches)};
            $r{occupancy} = 100 * $held * up($threads, 32) / 2048;
            $r{conflicts} = $l->{shared_requests} ? 100 * $l->{conflicts} / $l->{shared_requests} : '';
            $r{sectors} = $l->{sectors} ? 100 * $l->{sector_bytes} / (32 * $l->{sectors}) : '';
            my $all = $l->{work} + $l->{collectives} + $l->{mma};
            $r{tensor_share} = $all ? 100 * $l->{mma} / $all : '';
            $r{partial} = $l->{work} ? 100 * $l->{partial} / $l->{work} : '';
            $r{bytes} = $l->{unique};
            $r{tensor_ops} = 4096 * $l->{mma};
            # Float operations outside the tensor cores: the code's ratio to memory requests times the requests counted. An
            # estimate where loops differ.
            $r{fp32_ops} = $f->{all} && $f->{all}{memory} ? 32 * $f->{all}{fp32} / $f->{all}{memory} * $l->{work} : '';
            my %t = (memory => $r{bytes} / $h200{bandwidth}, L2 => 32 * $l->{sectors} / ($h200{sm} * $h200{l2_clock} * $h200{clock}),
                tensor => $r{tensor_ops} / $h200{tensor}, fp32 => ($r{fp32_ops} || 0) / $h200{fp32},
                shared => ($l->{shared_requests} + $l->{conflicts}) / ($h200{sm} * $h200{clock}));
            ($r{side}) = sort { $t{$b} <=> $t{$a} or $a cmp $b } keys %t;
            $r{time} = 1e6 * $t{$r{side}};
            # Reach on paper: the share of the limit that the instructions allow. Tensor kernels: clocks of the tensor cores
            # over those of the busiest of tensor cores, issue, shared memory and special functions in the main loop.
            # Others: bytes in flight against bandwidth times latency, and issue slots of the main loop against bandwidth.
            if (my $p = $f->{loop}) {
                if ($p->{hmma}) {
                    my $tensor = $h200{mma_clocks} * $p->{hmma};
                    $r{reach} = 100 * $tensor / max($tensor, $p->{n}, 4 * $p->{lsu}, 8 * $p->{special});
                } elsif (!$f->{all}{hmma} and $p->{load_bytes}) {
                    my $flight = $held * $threads * $p->{load_bytes} / ($h200{bandwidth} * $h200{latency} / $h200{sm});
                    my $issue = 32 * $p->{bytes} / (max($p->{n}, 8 * $p->{special}) / 4) / ($h200{bandwidth} / $h200{sm} / $h200{clock});
                    $r{reach} = 100 * min(1, $flight, $issue);
                }
            }
        }
        push @rows, \%r;
    }
}

# ---- budgets ----
my @budgets;
for my $file (sort glob 'kernels/*/*.budget') {
    my $n = 0;
    for (split /\n/, slurp $file) {
        $n++;
        next if /^\s*(?:#|$)/;
        # The pattern may contain spaces (template arguments): the limits are the pairs at the end.
        my ($pattern, $limits) = /^(.*?)((?:\s+(?:regs|mma|wide|conflicts|sectors|occupancy|reach)\s+[\d.]+)+)\s*$/
            or die "gpu-report: $file:$n: want PATTERN KEY VALUE...\n";
        my %limit = split ' ', $limits;
        push @budgets, {file => $file, line => $n, pattern => $pattern, re => join('.*', map { quotemeta } split /\*/, $pattern, -1), limit => \%limit};
    }
}
my %counted_key = map { $_ => 1 } qw(conflicts sectors occupancy reach);
my %at_least = map { $_ => 1 } qw(mma wide sectors occupancy reach);
for my $r (@rows) {
    my %limit = (spill => 0, local => 0);
    for my $b (@budgets) {
        next unless $r->{kernel} =~ /^$b->{re}$/;
        $b->{used}++;
        %limit = (%limit, %{$b->{limit}});
    }
    for my $k (sort keys %limit) {
        my $v = $r->{$k};
        next if !defined $v or $v eq '' or $counted_key{$k} && $r->{of} ne 'model';
        next if $at_least{$k} ? $v >= $limit{$k} : $v <= $limit{$k};
        $r->{bad}{$k} = 1;
        push @exceeded, sprintf '%s for sm_%d (%s): %s %s, at %s %s', $r->{kernel}, $r->{arch}, $source{$r->{file}}, $k,
            $v =~ /\./ ? sprintf('%.1f', $v) : $v, $at_least{$k} ? 'least' : 'most', $limit{$k};
    }
}
push @exceeded, "$_->{file}:$_->{line}: no kernel is called $_->{pattern}" for grep { !$_->{used} } @budgets;

# ---- output ----
my @columns = qw(kernel file arch regs spill shared dynamic of grid block occupancy instructions mma loads wide local conflicts sectors
    tensor_share partial bytes tensor_ops fp32_ops time side reach);
my %head = (arch => 'sm', of => 'shape of', spill => 'spilled', dynamic => 'dynamic shared', occupancy => 'occupancy %', mma => 'mma instr', loads => 'loads', wide => '16-byte loads %',
    local => 'local instr', conflicts => 'bank conflicts %', sectors => 'sector use %', tensor_share => 'tensor share %', partial => 'partial warps %',
    tensor_ops => 'tensor operations', fp32_ops => 'float operations (guess)', time => 'H200 limit us', side => 'bound by', reach => 'reach on paper %');
sub value { my ($r, $c) = @_; my $v = $r->{$c} // ''; return $v if $v eq '' or $v !~ /^[\d.e+-]+$/; return $c eq 'time' ? sprintf('%.3g', $v) : $v =~ /[.e]/ ? sprintf('%.1f', $v) : $v }
sub quoted { my ($v) = @_; return $v =~ /[",]/ ? '"' . $v =~ s/"/""/gr . '"' : $v }
my $text = join(',', map { quoted($head{$_} // $_) } @columns) . "\n";
for my $r (@rows) { $text .= join(',', map { quoted(value($r, $_)) } @columns) . "\n" }
spit($csv, $text);

my @short = grep { !/^(?:file|arch|instructions|grid|bytes|fp32_ops|launches)$/ } @columns;
my @page = grep { $_->{arch} == $shown } @rows;
my %files_rows;
push @{$files_rows{$_->{file}}}, $_ for @page;
my $about = "One row for each kernel instance, for sm_$shown; registers for " . join(', ', map { "sm_$_" } @have) . '. Counters are of its largest launch in the simulation. '
    . 'Limits are those of an H200 on paper (4.8 TB/s; mma.sync ' . sprintf('%.0f', $h200{tensor} / 1e12) . ' of 989 TFLOP/s bf16; 67 TFLOP/s float): nothing was timed.';
my %regs;
$regs{$_->{full}}{$_->{arch}} = $_->{regs} for @rows;
my $md = "# GPU report\n\n$about\n";
my $html = '<!doctype html><meta charset="utf-8"><title>GPU report</title><style>body{font:13px/1.4 system-ui,sans-serif;margin:2em;color:#222}'
    . 'table{border-collapse:collapse;margin:0 0 2em}td,th{padding:2px 8px;border-bottom:1px solid #ddd;text-align:right;white-space:nowrap}'
    . 'th{background:#f4f4f4;position:sticky;top:0;white-space:normal;vertical-align:bottom}td:first-child,th:first-child{text-align:left;max-width:34em;overflow:hidden;text-overflow:ellipsis}'
    . '.bad{background:#f8c8c4;font-weight:600}.none{color:#999}</style>' . "<h1>GPU report</h1><p>$about</p>";
sub escaped { my ($t) = @_; $t =~ s/&/&amp;/g; $t =~ s/</&lt;/g; $t =~ s/>/&gt;/g; return $t }
if (@exceeded) {
    $md .= "\n## Budgets exceeded\n\n" . join('', map { "- $_\n" } @exceeded);
    $html .= '<h2>Budgets exceeded</h2><ul>' . join('', map { '<li class="bad">' . escaped($_) } @exceeded) . '</ul>';
}
for my $file (sort keys %files_rows) {
    $md .= "\n## $source{$file}\n\n| " . join(' | ', map { $head{$_} // $_ } @short) . " |\n|" . '---|' x @short . "\n";
    $html .= "<h2>$source{$file}</h2><table><tr>" . join('', map { '<th>' . ($head{$_} // $_) } @short) . '</tr>';
    for my $r (@{$files_rows{$file}}) {
        my @v = map { $_ eq 'regs' ? join(' ', map { $regs{$r->{full}}{$_} // '-' } @have) : value($r, $_) } @short;
        $md .= '| ' . join(' | ', map { s/\|/\\|/gr } @v) . " |\n";
        $html .= '<tr>' . join('', map { '<td' . ($r->{bad}{$short[$_]} ? ' class="bad"' : $v[$_] eq '' ? ' class="none"' : '') . '>' . ($v[$_] eq '' ? '-' : escaped($v[$_])) } 0 .. $#v) . '</tr>';
    }
    $html .= '</table>';
}
spit("$out/gpu_report.md", $md);
spit("$out/gpu_report.html", $html);

my $never = grep { !defined $_->{grid} } @page;
print "$_\n" for @exceeded;
printf "%d kernels of %d files, %d of them without a launch in the simulation; %s, %s/gpu_report.md and .html\n", scalar @page, scalar keys %files_rows, $never, $csv, $out;
printf "%d budgets exceeded\n", scalar @exceeded;
exit($check && @exceeded ? 1 : 0);
