extension Manifest {
    /// The recipe that was followed; its content is a record, not an interface.
    public struct Recipe: Sendable, Equatable {
        /// Name of the recipe.
        public let name: String
        /// All that was asked for.
        public let content: ExactTable<JSONValue>

        init(_ place: Located) throws {
            let record = try place.record(["name", "content"])
            name = try record["name"].text()
            content = try record["content"].table { $0.value }
        }
    }

    /// Where the weights came from.
    public struct Checkpoint: Sendable, Equatable {
        /// Kind of source.
        public let source: String
        /// Where the source was found.
        public let location: String
        /// Revision of a repository, nil where there is none.
        public let revision: String?
        /// SHA-256 of each file that was read, by name.
        public let files: ExactTable<String>
        /// Licence of the weights.
        public let license: String
        /// The source that was asked for and could not be had, nil where it could.
        public let fallbackFrom: String?
        /// What else is to be known.
        public let notes: [String]

        init(_ place: Located) throws {
            let record = try place.record([
                "source", "location", "revision", "files", "license", "fallback_from", "notes",
            ])
            source = try record["source"].text()
            location = try record["location"].text()
            revision = try record["revision"].optional { try $0.string() }
            files = try record["files"].table { try $0.sha256() }
            license = try record["license"].text()
            fallbackFrom = try record["fallback_from"].optional { try $0.string() }
            notes = try record["notes"].list { try $0.string() }
        }
    }

    /// A static shape; an axis that a stage does not have is nil, but not both.
    public struct Shape: Sendable, Hashable {
        /// Token ids it has room for.
        public let tokens: Int?
        /// Aligned frames it has room for.
        public let frames: Int?

        init(_ place: Located) throws {
            let record = try place.record(["tokens", "frames"])
            tokens = try record["tokens"].optional { try $0.positive() }
            frames = try record["frames"].optional { try $0.positive() }
        }
    }

    /// Type of a tensor's or a voice's elements.
    public enum ElementType: String, Sendable, CaseIterable {
        /// 32-bit floating point.
        case float32
        /// 16-bit floating point.
        case float16
        /// 32-bit signed integers.
        case int32
    }

    /// One input or output of a function.
    public struct Tensor: Sendable, Equatable {
        /// Name of the input or output.
        public let name: String
        /// Type of its elements.
        public let type: ElementType
        /// Length of each axis.
        public let shape: [Int]

        init(_ place: Located) throws {
            let record = try place.record(["name", "dtype", "shape"])
            name = try record["name"].text()
            type = try record["dtype"].choice()
            shape = try record["shape"].list { try $0.positive() }
        }
    }

    /// One function of a package; a package for iOS 17 has only `main`.
    public struct Function: Sendable, Equatable {
        /// Name of the function.
        public let name: String
        /// The shape it is made for.
        public let bucket: Shape
        /// At least one.
        public let inputs: [Tensor]
        /// At least one.
        public let outputs: [Tensor]

        init(_ place: Located) throws {
            let record = try place.record(["name", "bucket", "inputs", "outputs"])
            name = try record["name"].text()
            bucket = try Shape(record["bucket"])
            inputs = try record["inputs"].list(minimum: 1, of: Tensor.init)
            outputs = try record["outputs"].list(minimum: 1, of: Tensor.init)
        }
    }

    /// What Core ML may run a package on.
    public enum ComputeUnits: String, Sendable, CaseIterable {
        /// Whatever Core ML chooses.
        case all = "ALL"
        /// The processor alone.
        case cpuOnly = "CPU_ONLY"
        /// Processor and graphics processor.
        case cpuAndGPU = "CPU_AND_GPU"
        /// Processor and Neural Engine.
        case cpuAndNeuralEngine = "CPU_AND_NE"
    }

    /// One `.mlpackage`.
    public struct Package: Sendable, Equatable {
        /// Its folder in the bundle.
        public let file: String
        /// `complete` or `pipeline`.
        public let cut: String
        /// Stage of the pipeline, nil where the cut is one package.
        public let stage: String?
        /// At least one.
        public let functions: [Function]
        /// Precision that was asked for.
        public let precision: String
        /// Oldest system it runs on, as coremltools names it.
        public let minimumDeploymentTarget: String
        /// What the recipe says to ask Core ML for.
        public let computeUnits: ComputeUnits

        init(_ place: Located) throws {
            let record = try place.record([
                "file", "cut", "stage", "functions", "precision", "minimum_deployment_target",
                "compute_units",
            ])
            file = try record["file"].relativePath()
            cut = try record["cut"].text()
            stage = try record["stage"].optional { try $0.string() }
            functions = try record["functions"].list(minimum: 1, of: Function.init)
            precision = try record["precision"].text()
            minimumDeploymentTarget = try record["minimum_deployment_target"].text()
            computeUnits = try record["compute_units"].choice()
        }
    }

    /// How the constant noise was drawn.
    public struct Noise: Sendable, Equatable {
        /// Name of the method.
        public let algorithm: String
        /// What it was drawn from, at least 0.
        public let seed: Int

        init(_ place: Located) throws {
            let record = try place.record(["algorithm", "seed"])
            algorithm = try record["algorithm"].text()
            seed = try record["seed"].integer(within: 0...Int.max)
        }
    }

    /// One voice pack: raw little-endian values, row by row.
    public struct Voice: Sendable, Equatable {
        /// Name of the voice.
        public let name: String
        /// Its file in the bundle.
        public let file: String
        /// Number of rows.
        public let rows: Int
        /// Values of a row.
        public let columns: Int
        /// Type of the values.
        public let type: ElementType
        /// Licence of the voice.
        public let license: String

        init(_ place: Located) throws {
            let record = try place.record(["name", "file", "rows", "columns", "dtype", "license"])
            name = try record["name"].text()
            file = try record["file"].relativePath()
            rows = try record["rows"].positive()
            columns = try record["columns"].positive()
            type = try record["dtype"].choice()
            license = try record["license"].text()
        }
    }

    /// What the converted network says in the sample file.
    public struct Sample: Sendable, Equatable {
        /// The WAV file in the bundle.
        public let file: String
        /// What is said, as it is written.
        public let text: String
        /// What is said, in phonemes.
        public let phonemes: String
        /// Name of the voice.
        public let voice: String
        /// 1 is the voice's own pace, 2 twice as fast.
        public let speed: Double

        init(_ place: Located) throws {
            let record = try place.record(["file", "text", "phonemes", "voice", "speed"])
            file = try record["file"].relativePath()
            text = try record["text"].text()
            phonemes = try record["phonemes"].text()
            voice = try record["voice"].text()
            speed = try record["speed"].number()
        }
    }

    /// Outcome of a comparison.
    public enum Verdict: String, Sendable, CaseIterable {
        /// Equal within its thresholds.
        case passed
        /// Not equal within its thresholds.
        case failed
        /// Not compared.
        case notRun = "not run"
    }

    /// One leg of parity. Metrics and thresholds carry their unit in the name (`audio_snr_db`).
    public struct Leg: Sendable, Equatable {
        /// Name of the leg.
        public let name: String
        /// Its outcome.
        public let verdict: Verdict
        /// What was measured.
        public let metrics: ExactTable<Double>
        /// What was asked for.
        public let thresholds: ExactTable<Double>
        /// Why it failed or was not run.
        public let detail: String?

        init(_ place: Located) throws {
            let record = try place.record(
                ["name", "verdict", "metrics", "thresholds"], optional: ["detail"])
            name = try record["name"].text()
            verdict = try record["verdict"].choice()
            metrics = try record["metrics"].table { try $0.number() }
            thresholds = try record["thresholds"].table { try $0.number() }
            detail = try record["detail"].optional { try $0.string() }
        }
    }

    /// Summary of what was executed and compared.
    public struct Parity: Sendable, Equatable {
        /// Outcome of all legs.
        public let verdict: Verdict
        /// `executor`, or `coreml` on a Mac.
        public let runtime: String
        /// The comparisons.
        public let legs: [Leg]

        init(_ place: Located) throws {
            let record = try place.record(["verdict", "runtime", "legs"])
            verdict = try record["verdict"].choice()
            runtime = try record["runtime"].text()
            legs = try record["legs"].list(of: Leg.init)
        }
    }

    /// Content and size of one file.
    public struct File: Sendable, Equatable {
        /// 64 lower-case hexadecimal digits.
        public let sha256: String
        /// Size of the file.
        public let bytes: Int

        init(_ place: Located) throws {
            let record = try place.record(["sha256", "bytes"])
            sha256 = try record["sha256"].sha256()
            bytes = try record["bytes"].integer(within: 0...Int.max)
        }

        init(sha256: String, bytes: Int) {
            self.sha256 = sha256
            self.bytes = bytes
        }
    }
}
