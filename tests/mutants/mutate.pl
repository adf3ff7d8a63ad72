# Finds the mistakes that can be made in a source file and writes a copy that contains all of them, inactive, so that one
# compilation is enough. A mistake is activated at run time by its number (mutant.h). Line numbers are kept.
#   require "mutate.pl";  my ($text, $mutants) = mutate($text_of_file, $file, $base_number, \%skip_lines);
# A mutant: {n, line, function, kind, from, to, code}: its number, line, function, kind, original text and replacement, the line's text.
#
# The text is matched by patterns, not parsed, and relies on clang-format's spaces (" < " compares, "<" opens template
# arguments, " * " multiplies, " *" declares). If a pattern is wrong the copy does not compile, and the driver drops the
# mutants of that line with a message.
use strict;
use warnings;

# Replaces comments, strings, preprocessor lines and code for nvcc only by blanks, which keeps positions.
sub blanked {
    my ($t) = @_;
    my $blank = sub { my $s = $_[0]; $s =~ s/[^\n]/ /g; return $s };
    $t =~ s{(/\*.*?\*/|//[^\n]*|"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)+')}{$blank->($1)}gse;
    $t =~ s{^([ \t]*\#ifdef[ \t]+__CUDACC__.*?^[ \t]*\#else[^\n]*)}{$blank->($1)}gsme;
    $t =~ s{^([ \t]*\#(?:[^\n]*\\\n)*[^\n]*)}{$blank->($1)}gme;
    return $t;
}

# The position of the matching bracket for each bracket.
sub brackets {
    my ($c) = @_;
    my (%to, @open);
    while ($c =~ /([(){}\[\]])/g) {
        my $p = pos($c) - 1;
        if ($1 =~ /[({\[]/) { push @open, $p; next }
        my $o = pop @open;
        ($to{$o}, $to{$p}) = ($p, $o) if defined $o;
    }
    return \%to;
}

# [from, to, header, is device code] of every function.
sub functions {
    my ($c, $to, $from, $end, $out) = @_;
    my $head = $from;
    for (my $p = $from; $p < $end; $p++) {
        my $ch = substr $c, $p, 1;
        if ($ch eq ';' or $ch eq '}') { $head = $p + 1; next }
        if ($ch eq '(' or $ch eq '[') { $p = $to->{$p} // $end; next }
        next if $ch ne '{';
        my $close = $to->{$p} // return;
        my $h = substr $c, $head, $p - $head;
        (my $first = $h) =~ s/^\s*(?:template\s*<[^{]*?>\s*(?=\w))?//s;
        if ($first =~ /^(?:namespace|extern\s*$|struct\s+\w+\s*$)/) {
            functions($c, $to, $p + 1, $close, $out);
        } elsif ($h =~ /\)\s*(?:const|noexcept)?\s*$/ and $h !~ /\bconstexpr\b/) {
            push @$out, [$p, $close, $h, $h =~ /\b(?:__global__|__device__|DEV_INLINE)\b/ ? 1 : 0, $head];
        }
        $p = $close;
        $head = $p + 1;
    }
}

# The name of a function, from the text before its body.
sub function_name {
    my ($h) = @_;
    while ($h =~ /__launch_bounds__\s*(?=\()/g) {
        my ($from, $p, $depth) = ($-[0], pos $h, 0);
        do { my $ch = substr $h, $p++, 1; $depth += $ch eq '(' ? 1 : $ch eq ')' ? -1 : 0 } while $depth and $p < length $h;
        substr($h, $from, $p - $from) = '';
        pos($h) = $from;
    }
    return $h =~ /(\w+)\s*\(/ ? $1 : '';
}

# The end of the operand that begins at $p: the next operator of lower precedence than +, or a closing bracket.
sub operand_end {
    my ($c, $to, $p, $end) = @_;
    while ($p < $end) {
        my $ch = substr $c, $p, 1;
        if ($ch =~ /[(\[{]/) { $p = ($to->{$p} // $end) + 1; next }
        last if $ch =~ /[)\]};,?]/;
        last if substr($c, $p) =~ /^\s+(?:&&|\|\||==|!=|<=|>=|<<|>>|[<>&|^?:=])\s/;
        $p++;
    }
    $p-- while substr($c, $p - 1, 1) =~ /\s/;
    return $p;
}
sub operand_start {
    my ($c, $to, $p) = @_; # just behind it
    while ($p > 0) {
        my $ch = substr $c, $p - 1, 1;
        if ($ch =~ /[)\]}]/) { $p = $to->{$p - 1} // return $p; next }
        last if $ch =~ /[(\[{;,!]/;
        last if substr($c, $p > 4 ? $p - 4 : 0, $p > 4 ? 4 : $p) =~ /(?:&&|\|\||==|!=|<=|>=|[-+*\/%&|^]=| [<>&|^?:=])\s$/;
        last if substr($c, 0, $p) =~ /\breturn\s$/;
        $p--;
    }
    $p++ while substr($c, $p, 1) =~ /\s/;
    return $p;
}
# The end of a factor: casts, a name with its members, indices and calls, a number, a bracket.
sub factor_end {
    my ($c, $to, $p) = @_;
    while (substr($c, $p) =~ /^(\([\w ]+\*?\))(?=[\w(])/) { $p += length $1 }
    if (substr($c, $p, 1) eq '(') { $p = $to->{$p} + 1 }
    elsif (substr($c, $p) =~ /^([-!~]?[\w.]+(?:<[\w:, *()\/+-]*>)?)/) { $p += length $1 }
    else { return undef }
    while (1) {
        my $rest = substr $c, $p, 80;
        if ($rest =~ /^[(\[]/) { $p = ($to->{$p} // return undef) + 1 }
        elsif ($rest =~ /^((?:\.|->)\w+)/) { $p += length $1 }
        else { return $p }
    }
}

sub mutate {
    my ($text, $file, $base, $skip_lines) = @_;
    my $c = blanked($text);
    my $to = brackets($c);
    my @functions;
    functions($c, $to, 0, length $c, \@functions);
    my (@insert, @mutants, $order);
    my @starts = (0);
    while ($text =~ /\n/g) { push @starts, pos $text }
    my $line_of = sub {
        my ($lo, $hi) = (0, $#starts);
        while ($lo < $hi) { my $m = int(($lo + $hi + 1) / 2); if ($starts[$m] <= $_[0]) { $lo = $m } else { $hi = $m - 1 } }
        return $lo + 1;
    };
    # No mutants in compile-time constants.
    my $fixed = '';
    vec($fixed, length $c, 1) = 0;
    my $fix = sub { vec($fixed, $_, 1) = 1 for $_[0] .. $_[1] - 1 };
    while ($c =~ /\b(?:static_assert|SHARED_ARRAY|SHARED_DYN|__launch_bounds__|alignas|decltype|case|enum|typedef|using)\b/g) {
        my $p = pos $c;
        my ($from, $end) = ($-[0], $p);
        if (substr($c, $p) =~ /^\s*\(/) { $end = $to->{ index $c, '(', $p } // $p }
        else { $end++ while $end < length $c and substr($c, $end, 1) !~ /[;{:]/ }
        $fix->($from, $end);
    }
    while ($c =~ /\bconstexpr\b/g) {
        my ($from, $p) = ($-[0], pos $c);
        if (substr($c, 0, $from) =~ /\bif\s*$/) { $fix->($from, $to->{ index $c, '(', $p } // $p); next }
        my $end = $p;
        $end++ while $end < length $c and substr($c, $end, 1) !~ /[;{]/;
        $fix->($from, substr($c, $end, 1) eq '{' ? $to->{$end} : $end) if defined $end;
    }
    while ($c =~ /\w</g) { # arguments of a template, up to the bracket that closes them
        my ($p, $depth) = (pos $c, 1);
        my $from = $p;
        for (; $depth and $p < length $c; $p++) {
            my $ch = substr $c, $p, 1;
            if ($ch eq '(') { $p = $to->{$p} // $p; next }
            $depth++ if $ch eq '<';
            $depth-- if $ch eq '>' and substr($c, $p - 1, 1) ne '-';
            last if $ch =~ /[;{}]/;
        }
        $fix->($from, $p) unless $depth;
    }
    # Extents of arrays in declarations: a type, names, no "=" yet.
    while ($c =~ /(?:^|[;{}(])\s*(?:static |const |volatile )*(?:unsigned(?: \w+)?|\w+(?:<[^;<>]*>)?)\s+[*&]?\w+(?=\[)/gm) {
        my $p = pos $c;
        next if substr($c, $-[0], $p - $-[0]) =~ /\b(?:return|else|case|goto)\b/;
        while ($p < length $c) {
            my $ch = substr $c, $p, 1;
            if ($ch eq '[') { my $e = $to->{$p} // last; $fix->($p, $e); $p = $e + 1; next }
            if (substr($c, $p) =~ /^(,\s*[*&]?\w+)(?=[\[,;])/) { $p += length $1; next }
            last;
        }
    }
    my $is_fixed = sub { vec($fixed, $_[0], 1) };

    # add(kind, from, to, replacement, [place, text]...): inserts the texts; N is replaced by the mutant's number.
    my (%seen, $function);
    my $add = sub {
        my ($kind, $from, $end, $instead, @texts) = @_;
        my $line = $line_of->($from);
        return if $is_fixed->($from);
        my $was = substr $text, $from, $end - $from;
        return if $seen{"$kind $from $instead"}++;
        my $n = $base + keys %seen; # does not depend on skipped lines
        return if $skip_lines->{$line};
        (my $code = substr $text, $starts[$line - 1], ($starts[$line] // length $text) - $starts[$line - 1]) =~ s/\s+/ /g;
        $code =~ s/^ | $//g;
        s/\s+/ /g for $was, $instead;
        push @mutants, {n => $n, file => $file, function => $function, line => $line, kind => $kind, from => $was, to => $instead, code => $code};
        # [place, text, closes what stands before it?, first and last place of the mutant, when]
        for (@texts) {
            my ($p, $t, $closes, $first) = @$_;
            $first //= $texts[0][0] < $texts[-1][0] ? $texts[0][0] : $from;
            $t =~ s/\bMUT_N\b/MUT($n)/g;
            push @insert, [$p, $t, $closes ? 1 : 0, $first, $texts[-1][0], $order++];
        }
        return $n;
    };

    for my $f (@functions) {
        my ($from, $end, $header, $device, $head) = @$f;
        $function = function_name($header);
        my $body = sub { pos($c) = $from; return $end };
        # Names of floats, whose comparisons are not index bounds; the same for the template type T.
        my %float;
        my $all = substr $c, $head, $end - $head;
        while ($all =~ /\b(?:float|double|float2|float4|T|pack<[^;()]*>)(?!\w)\s*[&*]?(?:__restrict__ )?(?=(\w+(?:[^;(){}]|\([^;{}]*\))*))/g) {
            my $declared = $1;
            $float{$1} = 1 if $declared =~ /^(\w+)/;
            1 while $declared =~ s/\([^()]*\)|\[[^\[\]]*\]//g;
            $float{$1} = 1 while $declared =~ /,\s*[*&]?(\w+)\s*(?=[=,\[]|$)/g;
        }
        my $is_float = sub {
            my ($e) = @_;
            return 1 if $e =~ /\b\d+\.\d*|\b\d+e[-+]?\d|\bINFINITY\b|\bfabsf?\(|\bfm(?:ax|in)f?\(|\bsqrtf?\(|\bexpf?\(/;
            1 while $e =~ s/\([^()]*\)|\[[^\[\]]*\]/ /g;
            return scalar grep { $float{$_} } $e =~ /(?<![.>\w])([A-Za-z_]\w*)/g;
        };

        # Barriers, fences, waits.
        $body->();
        while ($c =~ /\b(DEV_SYNC|__syncwarp|__threadfence(?:_block)?|dev_copy_commit|dev_copy_wait(?:<[^;>]*>)?)\(/g) {
            last if pos $c > $end;
            my ($p, $q, $name) = ($-[0], $to->{ pos($c) - 1 } + 1, $1);
            next unless substr($c, 0, $p) =~ /(?:[;{})]|\belse|:)\s*$/;
            my $kind = $name =~ /SYNC|syncwarp/ ? 'barrier' : $name =~ /fence/ ? 'fence' : 'wait';
            $add->($kind, $p, $q, '(nothing)', [$p, '(MUT_N) ? (void)0 : (void)']);
        }
        # Synchronisation between streams and with the host, in host code.
        if (!$device) {
            $body->();
            while ($c =~ /\b(cudaStreamWaitEvent|cudaEventRecord|cudaStreamSynchronize|cudaEventSynchronize|cudaDeviceSynchronize)\(/g) {
                last if pos $c > $end;
                my ($p, $q) = ($-[0], $to->{ pos($c) - 1 } + 1);
                $add->('event', $p, $q, 'cudaSuccess', [$p, '((MUT_N) ? cudaSuccess : '], [$q, ')', 1]);
            }
        }
        # Rounding down instead of up: the ragged tail is not processed.
        $body->();
        while ($c =~ / \+ (\d+)\)+ \/ (\d+)\b/g) {
            last if pos $c > $end;
            my ($p, $e, $less, $b) = ($-[0], $-[0] + 3 + length $1, $1, $2);
            $add->('ceil', $p, $e, ' + 0', [$e, " - ((MUT_N) ? $less : 0)", 1]) if $less == $b - 1;
        }
        $body->();
        while ($c =~ / - 1\)+ \/ /g) {
            last if pos $c > $end;
            my ($p, $q) = ($-[0], pos $c);
            my $e = factor_end($c, $to, $q) // next;
            my $b = substr $text, $q, $e - $q;
            next if substr($c, 0, $p) !~ /\+ \Q$b\E$/;
            $add->('ceil', $p, $p + 4, " - $b", [$p + 4, " - ((MUT_N) ? ($b) - 1 : 0)", 1]);
        }
        next unless $device;

        # Index bounds plus or minus one. Comparisons of floats are reversed.
        $body->();
        while ($c =~ / (<|<=|>|>=)\s(?=\S)/g) {
            last if pos $c > $end;
            my ($p, $q, $op) = ($-[0], pos $c, $1);
            next if $is_fixed->($p);
            my ($e, $s) = (operand_end($c, $to, $q, $end), operand_start($c, $to, $p));
            my ($right, $left) = (substr($text, $q, $e - $q), substr($text, $s, $p - $s));
            # Also for min and max, since plus or minus one would not change the choice between equal values.
            my $choice = substr($text, $e) =~ /^\s+\?\s+(?:\Q$left\E\s+:\s+\Q$right\E|\Q$right\E\s+:\s+\Q$left\E)\s*[;,)\]]/;
            if ($choice or $is_float->($left) or $is_float->($right)) {
                $add->('compare', $s, $e, "!($left $op $right)", [$s, '(('], [$e, ') != (MUT_N))', 1]);
                next;
            }
            # A loop with a larger step: minus one step. Not for loops that halve, which would not end.
            my $step = substr($c, $e, 60) =~ /^[^;]*; \w+ (\+=|\/=|>>=) (\w+)\)/ ? "$1$2" : '';
            my $less = $step =~ /^\+=(\d+)$/ ? $1 : 1;
            $add->('bound+', $s, $e, "$left $op $right + 1", [$e, ' + (MUT_N)', 1, $q]);
            $add->('bound-', $s, $e, "$left $op $right - $less", [$e, $less == 1 ? ' - (MUT_N)' : " - ((MUT_N) ? $less : 0)", 1, $q])
                unless $step =~ m{^(?:/|>)};
        }
        # Where loops start.
        $body->();
        while ($c =~ /\bfor \((?:const )?(?:int|unsigned|size_t|u?int\d+_t) (\w+) = /g) {
            last if pos $c > $end;
            my ($q, $name) = (pos $c, $1);
            my $e = $q;
            while (substr($c, $e, 1) !~ /[;,]/) { $e = $to->{$e} if substr($c, $e, 1) =~ /[(\[{]/; $e++ }
            my $was = substr $text, $q, $e - $q;
            if (substr($c, $e, 120) =~ m{^;[^;]*; \w+ (?:/= 2|>>= 1)\)}) {
                $add->('start', $q, $e, "($was) / 2", [$q, '('], [$e, ') / ((MUT_N) ? 2 : 1)', 1]);
                next;
            }
            $add->('start', $q, $e, "$was + 1", [$q, '('], [$e, ') + (MUT_N)', 1]);
        }
        # Guards: threads without an element continue; all lanes execute code for a single lane.
        $body->();
        while ($c =~ /\bif \(/g) {
            last if pos $c > $end;
            my $o = pos($c) - 1;
            my $q = $to->{$o};
            my $cond = substr $text, $o + 1, $q - $o - 1;
            if (substr($c, $q + 1) =~ /^\s*(?:\{\s*)?(?:return|continue|break)\b/) {
                $add->('guard', $o, $q + 1, '(never)', [$o + 1, '!(MUT_N) && ('], [$q, ')', 1]);
            } elsif ($cond =~ /^[\w.()% \/]+ == 0$/ or $cond =~ /^!\w+$/) {
                next if $is_float->($cond) or $cond =~ /beta|%/;
                $add->('guard', $o, $q + 1, '(always)', [$o + 1, '(MUT_N) || ('], [$q, ')', 1]);
            }
        }
        # One collective for another.
        my %other = (dev_warp_sum => 'dev_warp_max', dev_warp_max => 'dev_warp_sum', fmaxf => 'fminf', fminf => 'fmaxf',
            max => 'min', min => 'max', __shfl_up_sync => '__shfl_down_sync', __shfl_down_sync => '__shfl_up_sync',
            __any_sync => '__all_sync', __all_sync => '__any_sync', __reduce_add_sync => '__reduce_max_sync',
            __reduce_max_sync => '__reduce_min_sync', __reduce_min_sync => '__reduce_max_sync', atomicMax => 'atomicMin',
            atomicMin => 'atomicMax', atomicOr => 'atomicAnd', dev_ldmatrix_x4 => 'dev_ldmatrix_x4_trans',
            dev_ldmatrix_x4_trans => 'dev_ldmatrix_x4', dev_ldmatrix_x2 => 'dev_ldmatrix_x2_trans',
            dev_ldmatrix_x2_trans => 'dev_ldmatrix_x2');
        $body->();
        while ($c =~ /(?<![\w.>:])(\w+)(?=\()/g) {
            last if pos $c > $end;
            my ($p, $q, $name) = ($-[0], pos $c, $1);
            my $new = $other{$name};
            # A file that defines block_sum also has block_max.
            if (!$new and $name =~ /^(\w+)_(sum|max)$/) {
                my $pair = $1 . ($2 eq 'sum' ? '_max' : '_sum');
                $new = $pair if $c =~ /\b\Q$pair\E\(/;
            }
            next unless $new;
            my $close = $to->{$q};
            my $arguments = substr $text, $q, $close + 1 - $q;
            $add->('collective', $p, $close + 1, $new . $arguments, [$p, "((MUT_N) ? $new$arguments : "], [$close + 1, ')', 1]);
        }
        # A shuffle from the wrong lane.
        $body->();
        while ($c =~ /\b(__shfl_(?:xor_|up_|down_)?sync)\(/g) {
            last if pos $c > $end;
            my ($p, $name) = (pos $c, $1);
            my ($e, $commas) = ($p, 0);
            while (1) {
                my $ch = substr $c, $e, 1;
                if ($ch =~ /[(\[{]/) { $e = $to->{$e} + 1; next }
                last if $ch eq ')' or ($ch eq ',' and ++$commas == 3);
                $p = $e + 1 if $ch eq ',';
                $e++;
            }
            $p++ while substr($c, $p, 1) =~ /\s/;
            my $was = substr $text, $p, $e - $p;
            $add->('lane', $p, $e, "($was) ^ 1", [$p, '('], [$e, ') ^ (MUT_N)', 1]);
        }
        # Strides, if a product is an address: in brackets, in the first argument of a load or store, in pointer arithmetic,
        # in an integer's value.
        my @index;
        $body->();
        while ($c =~ /\w(\[)/g) { last if pos $c > $end; push @index, [$-[1] + 1, $to->{ $-[1] }, 1] }
        $body->();
        while ($c =~ /\b(?:\w+_load\w*|\w+_store\w*|\w+_blend\w*|dev_load\w*|dev_store\w*|dev_blend\w*|dev_copy_async\w*|dev_ldmatrix\w*)(?:<[^;()<>]*>)?\(/g) {
            last if pos $c > $end;
            my $copy = substr($c, $-[0], pos($c) - $-[0]) =~ /async|ldmatrix/;
            my ($p, $close) = (pos $c, $to->{ pos($c) - 1 });
            my $e = $p;
            if ($copy) { $e = $close }
            else { while ($e < $close and substr($c, $e, 1) ne ',') { $e = $to->{$e} if substr($c, $e, 1) =~ /[(\[{]/; $e++ } }
            push @index, [$p, $e, 0];
        }
        $body->();
        while ($c =~ /(?:[;{}]\s*|\bfor \(|, )(?:(?:const |static )*(?:int|unsigned|size_t|u?int\d+_t) )?\w+ \+?= (?=[^;]* \* )/g) {
            last if pos $c > $end;
            my ($s, $p) = (substr($c, $-[0], pos($c) - $-[0]), pos $c);
            my ($name) = $s =~ /(\w+) \+?= $/;
            next if $s =~ /^, /;
            next if $float{$name} and $s !~ /\+= $/;
            next if $float{$name} and $all !~ /\*\s*(?:__restrict__ )?\Q$name\E\b/; # a pointer's step, not a float's
            my $e = $p;
            while ($e < $end and substr($c, $e, 1) !~ /[;)}]/) { $e = $to->{$e} if substr($c, $e, 1) =~ /[(\[{]/ and defined $to->{$e}; $e++ }
            push @index, [$p, $e, 0];
        }
        if ($header =~ /\b(?:int|size_t|unsigned|u?int\d+_t)\s+\w+\([^{]*$/ and $header !~ /__global__/) {
            $body->();
            while ($c =~ /\breturn (?=[^;]* \* )/g) { last if pos $c > $end; push @index, [pos $c, index($c, ';', pos $c), 0] }
        }
        for my $i (@index) {
            my ($p, $e, $in_brackets) = @$i;
            next if $is_fixed->($p);
            pos($c) = $p;
            while ($c =~ / \* (?=\S)/g) {
                last if pos $c > $e;
                my ($s, $q) = ($-[0], pos $c);
                my $fe = factor_end($c, $to, $q) // next;
                my $by = substr $text, $q, $fe - $q;
                next if $by =~ /sizeof/ or $is_float->($by) or substr($c, $s, 1) ne ' ' or $is_fixed->($q);
                my $fs = $s;
                while ($fs > 0 and substr($c, $fs - 1, 1) =~ /[\w.)\]>-]/) { # names, members, calls
                    if (substr($c, $fs - 1, 1) =~ /[)\]]/) { $fs = $to->{$fs - 1} // last }
                    elsif (substr($c, $fs - 1, 1) =~ /[>-]/) { last if substr($c, $fs - 2, 2) ne '->'; $fs -= 2 }
                    else { $fs-- }
                }
                my $first = substr $text, $fs, $s - $fs;
                next if $first =~ /^[\d.]*\.\d*f?$/ or $is_float->($first);
                $add->('stride', $fs, $fe, "$first * ($by + 1)", [$q, '('], [$fe, ' + (MUT_N))', 1]);
                # The two indices exchanged: the row is multiplied by the column's stride.
                if ($first =~ /^[a-z]\w*$/ and substr($c, $fe) =~ /^ \+ ([a-z]\w*)(?=[\])])/ and !$float{$1} and $1 ne $first) {
                    my ($other, $o) = ($1, $fe + 3);
                    next if $other =~ /^(?:threadIdx|blockIdx)$/;
                    $add->('swap', $fs, $o + length $other, "$other * $by + $first", [$fs, "((MUT_N) ? $other : "], [$s, ')', 1],
                        [$o, "((MUT_N) ? $first : "], [$o + length $other, ')', 1]);
                }
            }
        }
        # Overwritten instead of accumulated.
        $body->();
        while ($c =~ /\b(?:dev_blend4?|pack_blend(?:<\w+>)?)\(/g) {
            last if pos $c > $end;
            my ($p, $close) = (pos $c, $to->{ pos($c) - 1 });
            $p = substr($c, $p, 1) =~ /[(\[]/ ? $to->{$p} + 1 : $p + 1 while substr($c, $p, 1) ne ',';
            my $q = operand_end($c, $to, $p + 2, $close);
            next if substr($c, $q, 1) ne ',';
            my $was = substr $text, $p + 2, $q - $p - 2;
            next if $was eq '0';
            $add->('beta', $p + 2, $q, '0', [$p + 2, '((MUT_N) ? 0 : '], [$q, ')', 1]);
        }
    }

    # From the end, so that positions stay valid. At one position closing texts precede opening ones; longer ranges are outside.
    my $out = $text;
    my $by = sub {
        return $b->[0] <=> $a->[0] || $a->[2] <=> $b->[2] ||
            ($a->[2] ? $a->[3] <=> $b->[3] || $a->[5] <=> $b->[5] : $a->[4] <=> $b->[4] || $b->[5] <=> $a->[5]);
    };
    substr($out, $_->[0], 0) = $_->[1] for sort $by @insert;
    return ($out, \@mutants);
}
1;
