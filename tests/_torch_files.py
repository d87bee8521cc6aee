"""Files of `torch.save` (PyTorch 2.14) as text: a checkpoint with shared, transposed and expanded tensors."""

import base64
import zlib

import ml_dtypes
import numpy as np


def unpacked(text):
    return zlib.decompress(base64.b85decode(text))


BASE = np.arange(6, dtype=np.float32).reshape(2, 3)
ARRAYS = {
    "state_dict.a": BASE,
    "state_dict.a_t": BASE.T,
    "state_dict.row": BASE[1],
    "state_dict.w": np.arange(3, dtype=np.float32),
    "state_dict.bf": np.array([1.5, -2], ml_dtypes.bfloat16),
    "state_dict.half": np.array([0.5], np.float16),
    "state_dict.on": np.array([True, False]),
    "state_dict.n": np.array(7),
    "optimizer.state.0.exp_avg": np.full(3, 0.25, np.float32),
    "f8": np.array([1, 2], ml_dtypes.float8_e4m3fn),
    "wide": np.ones((2, 2), np.float32),
}
OTHERS = {
    "optimizer.param_groups.0.lr": "float 0.1",
    "optimizer.param_groups.0.params": "list of 2",
    "epoch": "int 3",
}

# The arrays and others above, as a zip archive, and as a stream before version 1.6.
ZIP = unpacked(
    "c-o~`O>Em#9Cwm7$-L2aW6*8D7>th;x-5zFwXe2#!y9<8)?>qz4bM%S#G4!EZ@;wLq)0`m1;hm;E=&T!2?-"
    "&=4Iv?zIB{h{T(;W|gVO{jj=cArq<*g2Xz5cOxAFV^{=fJCbf@LW0LR7S+?qAQ?cj8$R5KThgJm7*$;K5+5{I~1W-WzVz$H{316-"
    "sdLo1sl1ff#Nwk)HBOuO##XPmO(808cA2@l~h1tJMGgaJAXl#q>0B()|oEtl6EW3FjhWepj1*LJjp3=e~egc_slwxd@Kh<XrSvTPll^}ggGMhR"
    "08S0ngdYBXVs97Vv-"
    "$ebLOBP*~~j>w@E*!E$K2zUs=kOISWv#uc+sbMp<Xf0NY*C=p10Y>ET3ha<W1plxH+=<{31s<h9$6kcdAaK_VhDDZPw;WoAJs#*W1dl851eLf5"
    "d)GO0LwEFf0~rnvPj*--"
    "Bn|s8cLc#xRMav&O}O`a+|M9*R)Oa}pnp97J|q+vQ^OcFSAiEinzqA4>aldb>$4Xrdj`fadl<n1>Z@f)683{0dkR5XfsBe%gsbUR1q6oj6#lA9"
    "m!)(9<S<<bL7vcIrULmWdUS^n99G~6)o0h?D67x5tuEOyN|uEQPupZ$+Y}*t$s-dH99Q53-"
    "B^d08LrcIz1roH=$0Iu^n{(lTw`M%$14b4RX}dG;Iz60Z_;o8bdv1w8h!q{N-6=)v|ySh;ez3~IHh4m4!N#7M=^E-"
    "ne*m#!vUoQXA|mRrxf6g7Mzp07M!P8<7z|G7pm|k6WlzgUU1)P2X~en@oi7u1q2rrc*k|sZFnn95UuLi&4vrwMYz-gJwbhGIWTu}^2g7}x}iop"
    "dtE49gmQw!!D#ADs?2EEr5YG=gaRu?sPrg7frsj<XOrzR<j>X7wT4mdI=MzqQvlNo*yVP>u8`AM-"
    "f8CB!KsiuENVt}UZ~W0s3WiyXwV#6G|L76<DeoqUff)-mT^fU{0p}NO^<c~!J-"
    "0Jo5^W877zXV{gsa}6S=0>ZEd4ms@vL<72BEDk=72aB#s9<+{P<Stp0HS&U-"
    "{Fxz@M3hbydFZTnHvEwfsmH|j_dg$FX+UimB$Fu4eSlX!+V6tJC}><XB>h76nZWl22JkKN9)OoS|hXjndWcQ;AB=!P1GxCv&e985{#;Y|qeSeG"
    "X8#}xj-*Al+IoFa-wKfd?LF8p9u4@KjwqO>F?xPI&tn~k4-"
    "OOayT*289zwV9E`Y+qiuImz85c4ITMcS!{e^sqa{+7%@6=w`w{%N2=r{hQln@BAC$MAmv%5+^ogeRej)5&J*y|5fe7es1&jV{L94`#<m5#B98W"
    "ileNGyd)O6{_}rnqH_@q{~W*cZXfwq=r{k0H0wXTe`8-"
    "C{x5Fc|D^Vag3Fh``nGre5BoY`x8ZN9{|P*?{`(izbG^^Mm&>dU0O|nOa7;V_uIuDQSu@L$n0!Dnsq~>jp_oqzIYG!D%B0fStdP!S(n2;{5VE;"
    "^CY8?%sdS#G{N?kVV+pJyK~;u`*sf0h;2c?_JotY=5bYm;qYU!)0Jq+#4U+hW*dB&tW{}%pat3+)gJ?U$bIZrm9e_c&e`*Xd@bghFFuQ_SfA?p"
    "xe+9AWAlBc(S?q;a0GkP7{r#84{t?6qL9D-bvREY^z-HH+*Vpk_?5!X+7sUEI6^kXW)oh0hV*UMw#oh^G3qh>EQv}Y-"
    "2e8E;)?eqtte<_@b@JO^etTKNTe%*MVOowx$2)B#a=_Qn*!y=8@BZJ`&RB}l3H5b*gZG9y81*p2bicRvf6dRj=K"
)
STREAM = unpacked(
    "c-n=O*>c-d7{|3ZP9wUpQ`WLOEXG@GhouRnqy=@0N<l0^DE6_XqDcNrM@icm&-f;x@CGnk^paQLuCK!*FvA7kIg;JD2+&xvbe7-"
    "$JKr|Zelmi;e%<)<^o`%Ho~ll?OMmF}97CztCly5*#SxEsQQ+*dIPs$pDlM>&(M;fT9x#W6ecuhC-LVZC<hMr5N&MR^fj&m5VlU8O;zcpXf~na"
    "$efc3r*(}*5!HB{k7R^$cPBjH2;Vx%R-"
    "|um#J<<+XkCSv_T#5TEX8m(CV?bNBpjT{_Hn=GDcog@%s*`d*NDL=t+o>P)9nQieik;ntfrU!NUX=7Gc83h*Y>TlGL@vLU4H{UqkJFmfR=3{lt"
    "gh4>&3dDTBhv8RD8-UlzRY24nu@8J`T-"
    "s?byGdS(H}iw&M}VT7EZ|3uETNCBT=vH6+$2OGT0*mrkmOU9yL|Ld@O@K&hdnWCnYS7_VCny!A|9{r#A_u@8cO$-N&;T=sAw(ExaH-wTILH;;E"
    "4vyE}}t*uabbRBCrtyPcIryM>oXNhhV3rP=#<MJT<RDZR$=x`oOe`LX;1-mvhdtr25;fVVPe?)0<L>-"
    "F}`?{Cj*wL7g=4OP<8Nb4Qx?|sySRz1^da5OEnWEy#HFu=;3zy%tb!P|%6-"
    "CDiguD5IG5L_jASHOw8Djx4<@b@_0xA1|qopS!nyzNmG%+PBO`lwTHU_H0{!`$w(0{u~jKF9H~g$)^v5a;K}7pWX(<O>fP-"
    "L7@<NpAF~L|$Ibh$hEH3zyO{F564A#i1~|eV4nqBImE#G^k*63`-"
    "Wkw34rxYLX<|a!)kk{tlIGjL*ino|mmCLwr8Q7p5|XE%&mUBgfqx;>&^*5k`^+8u%(tk+1U<`9>UnD>L?64#&cGNn#%r-"
    "9;pwGmN8jl)&A>_87g2^m-"
    "7Ze}3)vpT+fyU7oH@z_u``h={S&O{JY|6!km|O<isrbm9F^GiVy{?|Z$PHw5E)D7sgF7JwUbXRCE;ZA!`S^Uwx)Xm`Zf!t88O9>#&l?XJUGJIz"
    "68V8j6nvCPyxzt4~qI*$bC0?#9yW<7@5!Y;ii2iVI*ZgSkRa9cFYEzvLw%0?}!TdgQj^&$&OMdw~9Dxq>wiWa8Ck)o!x#Hu1<;<~q{+|!lA*JO"
    "<z>(hBvQ4h^bN4x8@(eCtZG5^0$o1B^6<pKrz(LJI2?)u;6QOvC"
)
