import Foundation

@testable import KokoroBundle

/// A small bundle on disk, removed when it is released. Its packages hold nothing that runs.
final class TemporaryBundle {
    let url = FileManager.default.temporaryDirectory.appendingPathComponent(
        "bundle-\(UUID().uuidString)")
    static let rows = 3
    static let columns = 4
    static let configuration = """
        {"style_dim": 2, "plbert": {"max_position_embeddings": 5}, "n_token": 178,
         "vocab": {"a": 1, "b": 2, "ab": 3, "\\u0303": 17}}
        """

    /// A package and the shapes of its functions.
    struct Package {
        let file: String
        let cut: String
        var stage: String?
        let shapes: [(tokens: Int?, frames: Int?)]

        static func complete(_ shapes: (tokens: Int?, frames: Int?)...) -> Package {
            Package(file: "Kokoro.mlpackage", cut: "complete", shapes: shapes)
        }

        static func pipeline(tokens: [Int], frames: [Int]) -> [Package] {
            PipelineStage.allCases.map { stage in
                let shapes: [(tokens: Int?, frames: Int?)] =
                    stage.isOfTokens
                    ? tokens.map { (tokens: $0, frames: nil) }
                    : frames.map { (tokens: nil, frames: $0) }
                return Package(
                    file: "\(stage.rawValue).mlpackage", cut: "pipeline", stage: stage.rawValue,
                    shapes: shapes)
            }
        }
    }

    /// Writes the files, and a manifest that lists them.
    init(
        _ packages: [Package] = [.complete((16, 40))], voices: [String] = ["low", "high"]
    ) throws {
        try write("config.json", Data(Self.configuration.utf8))
        for (index, name) in voices.enumerated() {
            let values = (0..<Self.rows * Self.columns).map { Float(100 * index + $0) }
            try write("voices/\(name).bin", LittleEndian.bytes(values))
        }
        try write("sample.wav", Data("RIFF".utf8))
        for package in packages {
            try write("\(package.file)/Data/model.mlmodel", Data(package.file.utf8))
        }
        try write("manifest.json", Data(Self.manifest(packages, voices, files: listed()).utf8))
    }

    deinit { try? FileManager.default.removeItem(at: url) }

    func write(_ path: String, _ data: Data) throws {
        let file = url.appendingPathComponent(path)
        try FileManager.default.createDirectory(
            at: file.deletingLastPathComponent(), withIntermediateDirectories: true)
        try data.write(to: file)
    }

    /// Replaces text of the manifest.
    func change(_ text: String, to other: String) throws {
        let file = url.appendingPathComponent("manifest.json")
        let manifest = try String(contentsOf: file, encoding: .utf8)
        precondition(manifest.contains(text), "the manifest does not hold \(text)")
        try write(
            "manifest.json", Data(manifest.replacingOccurrences(of: text, with: other).utf8))
    }

    private func listed() throws -> String {
        try BundleFiles.hash(folder: url).entries.map { path, file in
            #""\#(path)": {"sha256": "\#(file.sha256)", "bytes": \#(file.bytes)}"#
        }.joined(separator: ", ")
    }

    private static func bucket(_ shape: (tokens: Int?, frames: Int?)) -> String {
        let axes = [shape.tokens, shape.frames].map { $0.map(String.init) ?? "null" }
        return #"{"tokens": \#(axes[0]), "frames": \#(axes[1])}"#
    }

    private static func package(_ package: Package) -> String {
        let functions = package.shapes.enumerated().map { index, shape in
            """
            {"name": "f\(index)", "bucket": \(bucket(shape)),
             "inputs": [{"name": "x", "dtype": "int32", "shape": [1, 16]}],
             "outputs": [{"name": "y", "dtype": "float32", "shape": []}]}
            """
        }
        return """
            {"file": "\(package.file)", "cut": "\(package.cut)",
             "stage": \(package.stage.map { "\"\($0)\"" } ?? "null"),
             "functions": [\(functions.joined(separator: ", "))], "precision": "float16",
             "minimum_deployment_target": "iOS17", "compute_units": "CPU_AND_NE"}
            """
    }

    private static func voice(_ name: String) -> String {
        """
        {"name": "\(name)", "file": "voices/\(name).bin", "rows": \(rows), "columns": \(columns),
         "dtype": "float32", "license": "Apache-2.0"}
        """
    }

    private static func manifest(
        _ packages: [Package], _ voices: [String], files: String
    ) -> String {
        let buckets = packages.flatMap(\.shapes).map(bucket).joined(separator: ", ")
        return """
            {"schema_version": 1, "project_version": "0.1",
             "recipe": {"name": "small", "content": {"any": [1, null, {"deep": 1.5}]}},
             "checkpoint": {"source": "hub", "location": "somewhere", "revision": null,
              "files": {}, "license": "Apache-2.0", "fallback_from": null, "notes": []},
             "sample_rate": 24000, "samples_per_frame": 600, "max_phonemes": 3,
             "vocabulary": "config.json",
             "packages": [\(packages.map(package).joined(separator: ", "))],
             "buckets": [\(buckets)], "noise": {"algorithm": "philox", "seed": \(Int.max)},
             "voices": [\(voices.map(voice).joined(separator: ", "))],
             "sample": {"file": "sample.wav", "text": "A.", "phonemes": "a", "voice": "high",
              "speed": 1}, "tools": {"python": "3.11"},
             "parity": {"verdict": "not run", "runtime": "executor", "legs": []},
             "files": {\(files)}}
            """
    }
}
