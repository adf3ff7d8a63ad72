# Reads the statements of a C source and makes a copy that records which of them were executed.
#   my $s = source($text);             {text, code, to, functions => [{name, header, from, to, body => [statement...]}], points}
#   my $copy = covered($s, $first);    the same source with MCS_REACHED(number) at every point, numbers from $first
# A statement: {kind, from, to, point, parts}: its first and last place, the point that is executed with it, and
#   kind  simple (an expression, a declaration, a jump), block, if, loop, switch, label
#   head  [from, to]: the brackets of if, loop, switch
# Points are only where needed to tell whether a statement was executed: at a function's begin, in the branches of an if,
# after a jump or a macro that can return, after a label. A loop's body counts as executed with the loop.
# The text is matched as in mutate.pl; a function that does not match has no statements.
use strict;
use warnings;

sub skip_space { my ($c, $p) = @_; pos($$c) = $p; $$c =~ /\G\s*/gc; return pos $$c }

# The position after the bracket that closes the one at $p.
sub behind { my ($s, $p) = @_; return ($s->{to}{$p} // die "bracket\n") + 1 }

sub simple_end {
    my ($s, $p, $end) = @_;
    while ($p < $end) {
        my $ch = substr $s->{code}, $p, 1;
        if ($ch =~ /[(\[{]/) { $p = behind($s, $p); next }
        return $p + 1 if $ch eq ';';
        die "statement\n" if $ch =~ /[)\]}]/;
        $p++;
    }
    die "statement\n";
}

sub parse_statement {
    my ($s, $p, $end) = @_;
    my $c = \$s->{code};
    my $from = skip_space($c, $p);
    my $one = {from => $from, line_from => $p};
    pos($$c) = $from;
    if ($$c =~ /\G\{/gc) {
        my $close = behind($s, $from);
        return {%$one, kind => 'block', to => $close, body => parse_list($s, $from + 1, $close - 1)};
    }
    if ($$c =~ /\G(if|for|while|switch)\s*(?=\()/gc) {
        my ($word, $open) = ($1, pos $$c);
        my $close = behind($s, $open);
        my $body = parse_statement($s, $close, $end);
        my %all = (%$one, kind => $word eq 'if' || $word eq 'switch' ? $word : 'loop', word => $word, head => [$open, $close], body => [$body], to => $body->{to});
        if ($word eq 'if') {
            my $q = skip_space($c, $body->{to});
            pos($$c) = $q;
            if ($$c =~ /\Gelse\b/gc) {
                my $other = parse_statement($s, pos $$c, $end);
                $all{other} = $other;
                $all{to} = $other->{to};
            }
        }
        return \%all;
    }
    if ($$c =~ /\Gdo\b(?=\s*\{)/gc) {
        my $body = parse_statement($s, pos $$c, $end);
        pos($$c) = $body->{to};
        $$c =~ /\G\s*while\s*(?=\()/gc or die "do\n";
        my $open = pos $$c;
        return {%$one, kind => 'loop', word => 'do', head => [$open, behind($s, $open)], body => [$body], to => simple_end($s, $open, $end)};
    }
    if ($$c =~ /\G(?:case\b[^;{}?]*?|default\s*|[A-Za-z_]\w*):(?!:)/gc) { return {%$one, kind => 'label', to => pos $$c} }
    # A macro that contains a loop.
    if ($$c =~ /\G[A-Z]\w*\s*(?=\()/gc) {
        my $open = pos $$c;
        my $close = behind($s, $open);
        my $q = skip_space($c, $close);
        if (substr($$c, $q, 1) eq '{') {
            my $body = parse_statement($s, $q, $end);
            return {%$one, kind => 'loop', word => 'macro', head => [$open, $close], body => [$body], to => $body->{to}};
        }
        return {%$one, kind => 'simple', to => $close} if substr($$c, $q) =~ /^[\w}]/; # a macro that needs no semicolon
    }
    return {%$one, kind => 'simple', to => simple_end($s, $from, $end)};
}

sub parse_list {
    my ($s, $p, $end) = @_;
    my @list;
    while (skip_space(\$s->{code}, $p) < $end) {
        my $one = parse_statement($s, $p, $end);
        push @list, $one;
        $p = $one->{to};
    }
    return \@list;
}

my $jump = qr/\b(?:return|goto|break|continue|exit|_exit|abort)\b|\bMCS_(?:TRY|REQUIRE)\w*\(|\b[A-Z][A-Z_]{2,}\(/;
sub can_jump { my ($s, $one) = @_; return substr($s->{code}, $one->{from}, $one->{to} - $one->{from}) =~ $jump }

# place_points LIST, POINT: sets each statement's point; new points are added to {insert}.
sub place_points {
    my ($s, $list, $point, $at) = @_;
    my $new = 0; # a point is due before the next statement
    for my $one (@$list) {
        if ($new and $one->{kind} ne 'label') {
            $point = new_point($s, $at, ' ');
            $new = 0;
        }
        $one->{point} = $point;
        if ($one->{kind} eq 'label') { $new = 1 }
        elsif ($one->{kind} eq 'block') { place_points($s, $one->{body}, $point, $one->{from} + 1) }
        elsif ($one->{kind} eq 'if') {
            branch($s, $_) for grep { $_ } $one->{body}[0], $one->{other};
        } elsif ($one->{kind} eq 'switch') {
            place_points($s, $one->{body}, $point, $one->{from});
        } elsif ($one->{kind} eq 'loop') {
            place_points($s, $one->{body}, $point, $one->{head}[1]);
        }
        $new = 1 if $one->{kind} ne 'label' and can_jump($s, $one);
        $at = $one->{to};
    }
}
sub new_point {
    my ($s, $at, $before) = @_;
    my $n = $s->{points}++;
    push @{$s->{insert}}, [$at, $before . "MCS_REACHED(#$n);"];
    return $n;
}
sub branch {
    my ($s, $one) = @_;
    if ($one->{kind} eq 'block') {
        my $point = new_point($s, $one->{from} + 1, ' ');
        $one->{point} = $point;
        place_points($s, $one->{body}, $point, $one->{from} + 1);
        return;
    }
    # Without braces: adds them, also around its pragmas.
    my $point = $s->{points}++;
    push @{$s->{insert}}, [$one->{line_from}, " { MCS_REACHED(#$point);"], [$one->{to}, ' }'];
    my $before = @{$s->{insert}};
    place_points($s, [$one], $point, $one->{from});
    # Texts inserted at its end belong inside the brace.
    my @inner = splice @{$s->{insert}}, $before;
    my $close = pop @{$s->{insert}};
    push @{$s->{insert}}, @inner, $close;
}

sub source {
    my ($text) = @_;
    my $code = blanked($text);
    my $s = {text => $text, code => $code, to => brackets($code), points => 0, insert => [], functions => []};
    my @found;
    functions($code, $s->{to}, 0, length $code, \@found);
    for my $f (@found) {
        my ($from, $to, $header, undef, $head) = @$f;
        my $keep = [@{$s->{insert}}];
        my $points = $s->{points};
        my $one = {name => function_name($header =~ s/__attribute__\s*\(\((?:[^()]|\((?:[^()]|\([^()]*\))*\))*\)\)//gr), header => $header, head => $head, from => $from, to => $to};
        my $ok = eval {
            $one->{body} = parse_list($s, $from + 1, $to);
            my $point = new_point($s, $from + 1, ' ');
            $one->{point} = $point;
            place_points($s, $one->{body}, $point, $from + 1);
            1;
        };
        if (!$ok) {
            die $@ if $@ !~ /^(?:bracket|statement|do)$/;
            $one->{body} = undef;
            ($s->{insert}, $s->{points}) = ($keep, $points);
        }
        push @{$s->{functions}}, $one;
    }
    return $s;
}

sub covered {
    my ($s, $first) = @_;
    my $out = $s->{text};
    my $i = 0;
    my @insert = map { [@$_, $i++] } @{$s->{insert}};
    for (sort { $b->[0] <=> $a->[0] || $b->[2] <=> $a->[2] } @insert) {
        my $t = $_->[1] =~ s/#(\d+)/$first + $1/er;
        substr($out, $_->[0], 0) = $t;
    }
    return $out;
}
1;
