# The test programs of the CPU side, for mutants_cpu.pl: finds the points of the sources that each test executes, and runs a
# program with one source replaced. In a build with MCSAM_MUTANTS the folders are shared libraries: only the library of the
# mutated source is linked again, and LD_LIBRARY_PATH puts it first for a test and for every mcsam that it starts. In another
# build (a few named programs, for the sample of the ci tier) each program is linked again with the object before the libraries.
use strict;
use warnings;

sub slurp { open my $f, '<', $_[0] or die "mutants: cannot read $_[0]: $!\n"; local $/; return scalar(<$f>) // '' }
sub spit { my ($p, $t) = @_; make_path(dirname $p); open my $f, '>', $p or die "mutants: cannot write $p: $!\n"; print $f $t; close $f }
sub digest { # of a text
    my ($t) = @_;
    my ($x, $y) = (2166136261, 40503);
    for (unpack 'N*', $t . "\0\0\0") { $x = (($x ^ $_) * 16777619) & 0xffffffff; $y = ($y * 31 + $_) & 0xffffffff }
    return sprintf '%08x%08x%d', $x, $y, length $t;
}
sub processor_seconds { my @t = POSIX::times(); return ($t[3] + $t[4]) / POSIX::sysconf(POSIX::_SC_CLK_TCK()) } # of children

my ($root, $build, $out, $jobs, $source, %compile, %link, %library_of, @programs, $preload, $shared);

# Runs JOBS processes at a time: for each item of a list $work (in a separate process, returns a text), then $done (here).
sub in_parallel {
    my ($list, $work, $done) = @_;
    my (%running, @left);
    @left = @$list;
    while (@left or %running) {
        while (@left and keys %running < $jobs) {
            my $item = shift @left;
            my $answer = "$out/parallel." . @left;
            my $pid = fork // die "mutants: fork: $!\n";
            if (!$pid) {
                my $text = eval { $work->($item) };
                if (!defined $text) { print STDERR $@; POSIX::_exit(1) }
                spit($answer, $text);
                POSIX::_exit(0);
            }
            $running{$pid} = [$item, $answer];
        }
        my $pid = wait;
        my $r = delete $running{$pid} // next;
        die "mutants: stopped\n" if $?;
        $done->($r->[0], slurp($r->[1]));
        unlink $r->[1];
    }
}

sub open_programs {
    ($build, $jobs, $source, my @named) = @_;
    chomp($root = `pwd`);
    $build = "$root/$build" if $build !~ m{^/};
    $out = "$build/mutants";
    make_path($out);
    my @commands = split /\n/, `ninja -C $build -t targets all 2>/dev/null`;
    # Without tests of the sources, and of devices that do not exist here.
    @programs = grep { !/cuda|^test_(?:arrows|suite_count)$/ } map { /^(test_\w+): \w+_EXECUTABLE_LINKER/ ? $1 : () } @commands;
    if (@named) {
        my %there = map { $_ => 1 } @programs;
        for (@named) { die "mutants: no test program $_ in $build\n" unless $there{$_} }
        @programs = @named;
    }
    die "mutants: no test program in $build\n" unless @programs;
    my @libraries = map { /^(lib\w+\.(?:so|a)): \w+(?:SHARED|STATIC)_LIBRARY_LINKER/ ? $1 : () } @commands;
    $shared = grep { $_ eq 'libmcs_base.so' } @libraries;
    die "mutants: $build was not configured with -DMCSAM_MUTANTS=ON: name a few --programs\n" unless $shared or @named;
    system('ninja -C ' . join(' ', $build, '--quiet', $shared ? 'mcsam' : (), @programs) . ' >&2') == 0 or die "mutants: the tests do not build\n";
    for my $library (@libraries) {
        my ($l) = grep { / -o \Q$library\E |ar qc \Q$library\E / } `ninja -C $build -t commands $library`;
        $link{$library} = ($l // '') =~ s/\n//r;
        $library_of{$1} = $library while $link{$library} =~ m{ \S+\.dir/((?:engine|data|infer|train)/\S+\.c)\.o}g;
    }
    for my $p ($shared ? () : @programs) { ($link{$p}) = map { s/\n//r } grep { / -o \Q$p\E\s/ } `ninja -C $build -t commands $p` }
    my $json = slurp("$build/compile_commands.json");
    while ($json =~ /"command": "((?:[^"\\]|\\.)*)",\s*"file": "((?:[^"\\]|\\.)*)"/g) {
        my ($c, $f) = ($1, $2);
        $f =~ s{^\Q$root\E/}{} or next;
        next unless $library_of{$f} and $c =~ m{-o \S+\.dir/\Q$f\E\.o };
        $c =~ s/\\(.)/$1/g;
        $c =~ s/^\S*ccache\S* //;
        $c =~ s/ -o \S+ -c \S+$//;
        $compile{$f} = "$c -w";
    }
    for (sort keys %$source) { die "mutants: $_ is in no library of $build\n" unless $compile{$_} }
    $preload = "$out/folders.so";
    system("cc -O1 -shared -fPIC -o $preload tests/mutants/folders.c") == 0 or die "mutants: folders.c does not compile\n";
    return $out;
}

# Compiles a text in place of a source, with the same __FILE__.
sub compile_text {
    my ($f, $text, $object, $more) = @_;
    my $pid = open my $to, '|-', "cd $build && $compile{$f} " . ($more // '') . " -o $object -x c -c - >$object.log 2>&1" or die "mutants: cc: $!\n";
    print $to "#line 1 \"$root/$f\"\n$text";
    return close $to;
}
sub link_library {
    my ($library, $folder, %object) = @_;
    my $l = $link{$library};
    for (sort keys %object) { $l =~ s{ \S+\.dir/\Q$_\E\.o\b}{ $object{$_}} or die "mutants: $_ is not in $library\n" }
    $l =~ s{ -o \Q$library\E }{ -o $folder/$library };
    return system("cd $build && { $l ; } >$folder/link.log 2>&1") == 0;
}
sub link_program {
    my ($p, $folder, @objects) = @_;
    my $l = $link{$p};
    $l =~ s{ -o \Q$p\E(?=\s)}{ @objects -o $folder/$p } or die "mutants: how $p is linked is not known\n";
    return system("cd $build && { $l ; } >$folder/link.log 2>&1") == 0;
}

# Replaces a source by one with a mistake. Returns 'planted' and the folder of its library; 'equivalent' if the object code is
# the same; 'invalid' if it does not compile.
sub plant {
    my ($slot, $s, $m) = @_;
    my ($f, $folder) = ($m->{file}, "$out/slot.$slot");
    remove_tree($folder);
    make_path($folder);
    my $base = "$out/base/" . ($f =~ s{/}{__}gr) . '.o';
    my $key = digest($compile{$f} . $s->{text}) . (stat "$build/$library_of{$f}")[9]; # a header that changed made a new library
    if (!-e "$base.key" or slurp("$base.key") ne $key) {
        make_path(dirname $base);
        compile_text($f, $s->{text}, "$base.$slot") or die "$f does not compile\n";
        rename "$base.$slot", $base;
        spit("$base.key", $key);
    }
    compile_text($f, planted($s, $m), "$folder/mutant.o") or return ('invalid', '', slurp("$folder/mutant.o.log") =~ /error: (.*)/ ? $1 : 'does not compile');
    return ('equivalent', '', 'the same code') if system('cmp', '-s', $base, "$folder/mutant.o") == 0;
    return ('planted', $folder, '') unless $shared; # a program is linked when it is needed
    link_library($library_of{$f}, $folder, $f => "$folder/mutant.o") or return ('invalid', '', 'does not link');
    return ('planted', $folder, '');
}

# Runs tests of one program. Returns how it failed ('': passed) and the failed test.
sub run_tests {
    my ($tests, %o) = @_;
    my $program = $tests->[0]{program};
    my $log = "$out/log.$o{slot}";
    my $folders = "$out/folders.$o{slot}";
    my @names = map { $_->{filter} } @$tests;
    my $binary = $shared ? "./$program" : "$o{library}/$program";
    if (!$shared and !-e $binary) { link_program($program, $o{library}, "$o{library}/mutant.o") or die "mutants: $program does not link\n" }
    my $pid = fork // die "mutants: fork: $!\n";
    if (!$pid) {
        POSIX::setsid();
        chdir $build;
        open STDIN, '<', '/dev/null';
        open STDOUT, '>', $log;
        open STDERR, '>&', \*STDOUT;
        $ENV{LD_LIBRARY_PATH} = join ':', $shared ? $o{library} : '/nonexistent', $o{reached} // '/nonexistent';
        $ENV{MCSAM_LIBEXEC} = $build; # the program is not in the folder of mcsam-h5read
        $ENV{LD_PRELOAD} = $preload;
        $ENV{MUTANT_FOLDERS} = $folders;
        $ENV{TEST_FIRST_FAILURE} = 1;
        $ENV{OMP_WAIT_POLICY} = 'passive';
        exec 'sh', '-c', 'ulimit -c 0; ulimit -t "$1"; ulimit -f 4000000; ulimit -v 8000000; shift; exec "$@"', 'sh', int($o{limit} + 1), $binary, '-j1',
            '--fail-fast', '--filter', @names > 1 ? '@(' . join('|', @names) . ')' : $names[0], '--timeout', int(4 * $o{limit} + 20)
            or POSIX::_exit(127);
    }
    # A generous limit of wall time too, against endless waits; the machine may be shared.
    my $late = 0;
    local $SIG{ALRM} = sub { $late = 1; kill 'KILL', -$pid };
    alarm int(6 * $o{limit} + 20);
    1 while waitpid($pid, 0) < 0 and $!{EINTR};
    my $rc = $?;
    alarm 0;
    kill 'KILL', -$pid; # what a crashed test left running
    if (open my $f, '<', $folders) {
        while (<$f>) { chomp; remove_tree($_) if m{^/tmp/\w+$} and -d }
        unlink $folders;
    }
    return '' if !$rc;
    return ('time', $names[0]) if $late;
    my $said = slurp($log);
    $said =~ s/\e\[[\d;]*m//g;
    my ($suite, $test) = $said =~ /\[FAIL\] (\w+)::(\w+)/;
    return ($said =~ /CRASH/ ? 'crash' : 'fails', "$program " . (defined $suite ? "$suite/$test" : $names[0]));
}

# The tests, the points that each executes, and their times. Saved between runs: unchanged programs are not run again, and for
# a changed source only the tests that execute any of its points are known.
sub measure {
    my (@tests, %known);
    my $kept = "$out/reached";
    if (open my $f, '<', $kept) {
        my ($program, $test);
        while (<$f>) {
            chomp;
            my @a = split /\t/;
            if ($a[0] eq 'p') { $program = $known{$a[1]} = {digest => $a[2], tests => []} }
            elsif ($a[0] eq 't') { push @{$program->{tests}}, $test = {filter => $a[1], seconds => $a[2], good => $a[3], files => {}} }
            else { $test->{files}{$a[1]} = [$a[2], $a[3]] }
        }
    }
    my @new;
    for my $p (@programs) {
        my ($sum) = `cksum $build/$p` =~ /^(\d+)/;
        if ($known{$p} and $known{$p}{digest} eq $sum) { push @tests, map { {%$_, program => $p, name => "$p $_->{filter}"} } @{$known{$p}{tests}}; next }
        $known{$p} = {digest => $sum, tests => []};
        my $suite = '';
        for (`cd $build && ./$p --list 2>/dev/null`) {
            s/\e\[[\d;]*m//g;
            if (/^(\w+): \d+ tests?/) { $suite = $1 }
            elsif (/^\W+(\w+)\s*$/) { push @new, {program => $p, filter => "$suite/$1", name => "$p $suite/$1"} }
        }
    }
    if (@new) {
        my ($copies, $first, $n_points) = copies();
        print STDERR 'mutants: measuring ' . @new . " tests\n";
        in_parallel(\@new, sub {
            my ($t) = @_;
            my $map = "$out/map.$$";
            spit($map, "\0" x $n_points);
            my ($how) = run_tests([$t], slot => "m$$", library => $copies, reached => $map, limit => 40);
            my $bytes = slurp($map);
            unlink $map, "$out/log.m$$";
            my $text = join("\t", 't', $t->{filter}, sprintf('%.2f', processor_seconds()), $how ? 0 : 1) . "\n";
            for my $f (sort keys %$first) {
                my $part = substr $bytes, $first->{$f}, $source->{$f}{points};
                next unless $part =~ /\x01/;
                $text .= join("\t", 'f', $f, digest($source->{$f}{text}), unpack 'H*', pack 'b*', $part =~ tr/\x00\x01/01/r) . "\n";
            }
            return $text;
        }, sub {
            my ($t, $text) = @_;
            my ($head, @files) = split /\n/, $text;
            (undef, undef, $t->{seconds}, $t->{good}) = split /\t/, $head;
            $t->{files} = { map { my (undef, $f, $d, $bits) = split /\t/; ($f => [$d, $bits]) } @files };
            push @{$known{$t->{program}}{tests}}, $t;
            push @tests, $t;
            print STDERR "mutants: $t->{name} is left out: where no mutant is planted it fails, or takes too long\n" unless $t->{good};
        });
        my $text = '';
        for my $p (grep { $known{$_} } @programs) {
            $text .= "p\t$p\t$known{$p}{digest}\n";
            for my $t (@{$known{$p}{tests}}) {
                $text .= join("\t", 't', @$t{qw(filter seconds good)}) . "\n";
                $text .= join("\t", 'f', $_, @{$t->{files}{$_}}) . "\n" for sort keys %{$t->{files}};
            }
        }
        spit("$kept.new", $text);
        rename "$kept.new", $kept;
    }
    @tests = grep { $_->{good} } @tests;
    die "mutants: no test passes\n" unless @tests;
    my %digest = map { $_ => digest($source->{$_}{text}) } keys %$source;
    for my $t (@tests) {
        for my $f (keys %{$t->{files}}) {
            my ($d, $bits) = @{$t->{files}{$f}};
            $t->{reached}{$f} = $d eq ($digest{$f} // '') ? unpack('b*', pack 'H*', $bits) : '';
        }
    }
    # A program's preparation before its first test (test_demo runs the demo): estimated by its fastest test. Tests that run
    # together share it.
    my %least;
    push @{$least{$_->{program}}}, $_->{seconds} for @tests;
    for my $p (keys %least) { my ($min) = sort { $a <=> $b } @{$least{$p}}; $least{$p} = @{$least{$p}} > 2 && $min > 2 ? $min : 0 }
    $_->{setup} = $least{$_->{program}} for @tests;
    return {tests => \@tests};
}

# Seconds of processor time that tests of one program take together.
sub seconds_of {
    my ($step) = @_;
    my $sum = $step->[0]{setup};
    $sum += $_->{seconds} - $_->{setup} for @$step;
    return $sum;
}

# The tests that execute a mutant.
sub tests_of {
    my ($measured, $m) = @_;
    my $f = $m->{file};
    my @of_file = grep { defined $_->{reached}{$f} } @{$measured->{tests}};
    if (defined $m->{point}) { return grep { $_->{reached}{$f} eq '' or substr($_->{reached}{$f}, $m->{point}, 1) eq '1' } @of_file }
    return @of_file if @of_file;
    # A file with only tables: the tests that execute a source which uses the table.
    my @users = grep { $source->{$_}{code} =~ /\b\Q$m->{function}\E\b/ } keys %$source;
    return grep { my $t = $_; grep { defined $t->{reached}{$_} } @users } @{$measured->{tests}};
}

# Builds all libraries from instrumented copies. Returns their folder, each source's first point and the number of points.
sub copies {
    my $folder = "$out/copies";
    make_path("$folder/obj");
    my (%first, $n, %object) = ();
    $n = 0;
    for my $f (sort keys %$source) { $first{$f} = $n; $n += $source->{$f}{points} }
    my $include = "-include $root/tests/mutants/reached.h";
    print STDERR "mutants: compiling the copies that tell which lines are executed\n";
    in_parallel([sort keys %$source], sub {
        my ($f) = @_;
        my $o = "$folder/obj/" . ($f =~ s{/}{__}gr) . '.o';
        my $text = covered($source->{$f}, $first{$f});
        my $key = digest($compile{$f} . $include . $text) . (stat "$build/$library_of{$f}")[9];
        return '' if -e "$o.key" and slurp("$o.key") eq $key and -e $o;
        compile_text($f, $text, $o, $include) or die "mutants: the copy of $f that tells which lines are executed does not compile:\n" . slurp("$o.log");
        spit("$o.key", $key);
        return '';
    }, sub {});
    my %of;
    for my $f (keys %$source) { $of{$library_of{$f}}{$f} = "$folder/obj/" . ($f =~ s{/}{__}gr) . '.o' }
    system("cc -O1 -fPIC -I$root -DN_POINTS=$n -c -o $folder/reached.o tests/mutants/reached.c") == 0 or die "mutants: reached.c does not compile\n";
    if ($shared) {
        for my $library (sort keys %of) {
            my $keep = $link{$library};
            $link{$library} =~ s{ -o }{ $folder/reached.o -o } if $library eq $library_of{'engine/base/status.c'};
            link_library($library, $folder, %{$of{$library}}) or die "mutants: $library does not link:\n" . slurp("$folder/link.log");
            $link{$library} = $keep;
        }
    } else {
        for my $p (@programs) {
            link_program($p, $folder, "$folder/reached.o", map { values %$_ } values %of) or die "mutants: $p does not link:\n" . slurp("$folder/link.log");
        }
    }
    return ($folder, \%first, $n);
}
sub close_programs { remove_tree("$out/slot.$_"), unlink("$out/log.$_", "$out/answer.$_") for 1 .. $jobs }

# Reads the mistakes listed in a file; its first lines explain the format.
sub reviewed {
    my ($path, $source) = @_;
    my (@found, @missing, $one, @all);
    open my $f, '<', $path or die "mutants: cannot read $path: $!\n";
    while (<$f>) {
        chomp;
        next if /^#/;
        if (/^\s*$/) { $one = undef; next }
        push @all, $one = {line => $.} unless $one;
        if (/^(name|in): (.*)$/) { $one->{$1} = $2 }
        elsif (/^([-+]) ?(.*)$/) { $one->{$1} = defined $one->{$1} ? "$one->{$1} $2" : $2 }
        else { die "mutants: $path:$.: want 'name:', 'in:', '-' or '+'\n" }
    }
    for my $r (@all) {
        $r->{$_} // die "mutants: $path:$r->{line}: no '$_' in this entry\n" for qw(name in - +);
        my ($wanted, $hint) = $r->{in} =~ /^(\S+)(?: \((\S+)\))?$/ or die "mutants: $path:$r->{line}: want 'in: FUNCTION (FILE)'\n";
        my $pattern = join '\s+', map { quotemeta } split ' ', $r->{'-'};
        my @at;
        for my $file (sort keys %$source) {
            my $s = $source->{$file};
            my @spans = map { [$_->{head}, $_->{to} + 1, $_->{point}] } grep { $_->{name} eq $wanted } @{$s->{functions}};
            if (!@spans) {
                while ($s->{code} =~ /\b\Q$wanted\E\b\s*(?:\[[^\]=;]*\]\s*)*=\s*/g) { push @spans, [$-[0], index($s->{code}, ';', pos $s->{code}) + 1, undef] }
            }
            for my $p (@spans) {
                my $part = substr $s->{text}, $p->[0], $p->[1] - $p->[0];
                while ($part =~ /$pattern/g) { push @at, {file => $file, at => $p->[0] + $-[0], end => $p->[0] + pos $part, point => $p->[2]} }
            }
        }
        if (!@at) { # the function was renamed: the text may be unique
            for my $file (sort keys %$source) {
                my $text = $source->{$file}{text};
                while ($text =~ /$pattern/g) {
                    my ($from, $end) = ($-[0], pos $text);
                    my ($in) = grep { $_->{head} <= $from and $end <= $_->{to} } @{$source->{$file}{functions}};
                    push @at, {file => $file, at => $from, end => $end, point => $in ? $in->{point} : undef};
                }
            }
        }
        my @hinted = grep { defined $hint and $_->{file} =~ m{(?:^|/)\Q$hint\E$} } @at;
        @at = @hinted if @hinted;
        if (@at != 1) {
            push @missing, "'$r->{name}' (line $r->{line}): " . (@at ? @at . ' places' : 'no place') . " in $wanted with the text: $r->{'-'}: write the entry anew";
            next;
        }
        my $m = {%{$at[0]}, name => $r->{name}, function => $wanted, kind => 'review', from => $r->{'-'}, to => $r->{'+'}, instead => $r->{'+'}, same => 1};
        my $before = substr $source->{$m->{file}}{text}, 0, $m->{at};
        $m->{line} = 1 + ($before =~ tr/\n//);
        my $was = substr $source->{$m->{file}}{text}, $m->{at}, $m->{end} - $m->{at};
        $m->{instead} .= "\n" x ($was =~ tr/\n//);
        ($m->{code} = $was) =~ s/\s+/ /g;
        push @found, $m;
    }
    return (\@found, \@missing);
}
1;
